"""What cannot arrive is refused at the door, with words that say what would be right."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest

from django_sse import send_event, send_events, wire
from django_sse.models import Event
from django_sse.responses import encode_item

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.wire.parsers import Parsers

RECURSIVE: list[Any] = []
RECURSIVE.append(RECURSIVE)

# No mark django_db: what got past the door would fail on the database, and not with a ValueError.


@pytest.mark.parametrize("store", [True, False], ids=["stored", "ephemeral"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({"text": "a\ud800"}, ["surrogate", "character 1 ", "replace"], id="lone surrogate in text"),
        pytest.param({"data": ["\udfff"]}, ["surrogate", "UTF-8", "replace"], id="lone surrogate in data"),
        pytest.param({"data": {"\ud800": 1}}, ["surrogate", "UTF-8"], id="lone surrogate in a key of data"),
        pytest.param({"text": "", "event_type": "a\ud800"}, ["surrogate"], id="lone surrogate in the type"),
        pytest.param({"data": float("nan")}, ["JSON"], id="NaN"),
        pytest.param({"data": [float("-inf")]}, ["JSON"], id="infinity"),
        pytest.param({"data": {1, 2}}, ["JSON", "set"], id="a set"),
        pytest.param({"data": b"bytes"}, ["JSON", "bytes"], id="bytes"),
        pytest.param({"data": RECURSIVE}, ["JSON"], id="data that holds itself"),
        pytest.param({"text": 7}, ["int", "str", "data"], id="text that is none"),
        pytest.param({"data": 1, "text": "a"}, ["either data", "text=", "not both"], id="both data and text"),
        pytest.param({}, ["data", "text=", "not neither"], id="neither data nor text"),
        pytest.param({"text": "", "event_type": "error"}, ["reserved", "another name"], id="type error"),
        pytest.param({"text": "", "event_type": "open"}, ["reserved", "another name"], id="type open"),
        pytest.param({"text": "", "event_type": "sse.reset"}, ["reserved", "sse.*"], id="type sse.reset"),
        pytest.param({"text": "", "event_type": "sse."}, ["reserved", "sse.*"], id="type sse."),
        pytest.param({"text": "", "event_type": ""}, ["1 to 100", "None"], id="empty type"),
        pytest.param({"text": "", "event_type": "x" * 101}, ["1 to 100", "None"], id="long type"),
        pytest.param({"text": "", "event_type": 7}, ["1 to 100", "None"], id="type that is no text"),
        pytest.param({"text": "", "event_type": "a\rb"}, ["CR, LF or NUL"], id="CR in the type"),
        pytest.param({"text": "", "event_type": "a\n"}, ["CR, LF or NUL"], id="LF in the type"),
        pytest.param({"text": "", "event_type": "\0"}, ["CR, LF or NUL"], id="NUL in the type"),
        *(
            pytest.param({"text": "", "channel": channel}, ["channel name", "1 to 100", "A-Z a-z 0-9 . _ ~ -"], id=name)
            for name, channel in {
                "empty channel": "",
                "long channel": "x" * 101,
                "space in the channel": "a b",
                "LF after the channel": "a\n",
                "slash in the channel": "a/b",
                "colon in the channel": "a:b",
                "letter beyond ASCII in the channel": "é",
                "digit beyond ASCII in the channel": "٣",
                "channel that is no text": 7,
                "channel None": None,
            }.items()
        ),
    ],
)
def test_refused(arguments: dict[str, Any], words: list[str], store: bool) -> None:
    given = {"channel": "public.door", "store": store, **arguments}
    with pytest.raises(ValueError, match=r"\w") as refusal:
        send_event(**given)
    message = str(refusal.value)
    assert [word for word in words if word not in message] == [], message
    assert len(message) < 400, "a refusal must fit into a log"
    assert message.isprintable(), message


@pytest.mark.parametrize("key", ["", "x" * 201, "a b", "a\n", "\t", "é", "\x7f", 7], ids=lambda key: repr(key)[:20])
def test_refused_key(key: Any) -> None:
    with pytest.raises(ValueError, match=r"is not 1 to 200 visible ASCII characters without spaces"):
        send_event("public.door", text="", key=key)


def test_an_ephemeral_event_has_no_key() -> None:
    with pytest.raises(ValueError, match=r"stored event.*Leave out store=False"):
        send_event("public.door", text="", key="k", store=False)


@pytest.mark.parametrize("item", [float("nan"), {"a": float("inf")}])
def test_a_response_refuses_what_json_has_not(item: Any) -> None:
    with pytest.raises(ValueError, match="JSON"):
        encode_item(item)


@pytest.mark.parametrize(
    "arguments", [{"data": "\ud800"}, {"data": "", "id": "\ud800"}, {"data": "", "event": "\ud800"}]
)
def test_the_encoder_refuses_surrogates(arguments: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"surrogate.*UTF-8"):
        wire.encode(**arguments)


LIMIT = 65536


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "content",
    [
        lambda size: {"text": "x" * size},
        lambda size: {"text": "é" * (size // 2) + "x" * (size % 2)},
        lambda size: {"text": "\n" * size},
        lambda size: {"text": "\0" * size},
        lambda size: {"data": "x" * (size - 2)},  # and its quotes
        lambda size: {"data": ["é" * ((size - 4) // 2) + "x" * (size % 2)]},
    ],
    ids=["text", "two bytes each", "lines", "NUL", "JSON", "JSON of two bytes each"],
)
def test_the_limit_is_exact(parsers: Parsers, content: Any) -> None:
    event = send_event("public.door", **content(LIMIT))
    assert event is not None
    row = Event.objects.get(pk=event.pk)
    assert len(row.data.encode()) == LIMIT
    for parser, seen in parsers(row.encode(), bytewise=False).items():
        assert [event.data for event in seen.events] == [row.data], parser
    with pytest.raises(ValueError, match=rf"{LIMIT + 1} bytes, more than DJANGO_SSE\['MAX_EVENT_BYTES'\] = {LIMIT}"):
        send_event("public.door", **content(LIMIT + 1))
    assert Event.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_the_limit_is_the_configured_one(settings: SettingsWrapper) -> None:
    settings.DJANGO_SSE = {"MAX_EVENT_BYTES": 3}
    assert send_event("public.door", text="abc")
    with pytest.raises(ValueError, match=r"4 bytes.* = 3\. Send an id or a URL .* raise the limit"):
        send_event("public.door", text="abcd", store=False)


@pytest.mark.django_db(transaction=True)
def test_one_bad_event_refuses_the_whole_batch() -> None:
    with pytest.raises(ValueError, match="reserved"):
        send_events([("public.door", "a", 1), ("public.door", "error", 2)])
    assert not Event.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "arguments",
    [
        {"channel": "A-Za-z0-9._~-", "text": ""},
        {"channel": "x" * 100, "event_type": "é" * 100, "text": "", "key": "!" + "~" * 199},
        {"channel": "c", "event_type": "errors", "data": None},
        {"channel": "c", "event_type": "sse", "data": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)},
        {"channel": "c", "event_type": "Error", "data": {"a": (1, 2)}},
    ],
)
def test_the_widest_that_is_allowed(arguments: dict[str, Any]) -> None:
    event = send_event(**arguments)
    assert event is not None
    row = Event.objects.get(pk=event.pk)
    assert (row.channel, row.type, row.key) == (
        arguments["channel"],
        arguments.get("event_type", "message"),
        arguments.get("key"),
    )
