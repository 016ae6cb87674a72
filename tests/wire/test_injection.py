"""Nothing that is published can make a client see a field or an event that was not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from django_sse import send_event, wire
from django_sse.exceptions import InvalidField
from django_sse.log import Row
from django_sse.models import Event
from django_sse.reader import frame
from django_sse.responses import encode_item
from tests.wire.parsers import SeenEvent, lines_to_lf
from tests.wire.strategies import CONTENTS, EXAMPLES, HOSTILE, JSON, TYPES

if TYPE_CHECKING:
    from tests.wire.parsers import Parsers

FORGED = "x\n\nevent: forged\ndata: forged\nid: 999\nretry: 1\n\n"
BEFORE, AFTER = wire.encode("before", id="1"), wire.encode("after", id="3")


def check_between(parsers: Parsers, body: bytes, event: SeenEvent | None) -> None:
    """Between two events of which we know, ``body`` is this ``event`` and nothing else."""
    for parser, seen in parsers(BEFORE + body + AFTER).items():
        expected = [
            SeenEvent("message", "before", "1"),
            *([event] if event else []),
            SeenEvent("message", "after", "3"),
        ]
        if parser.startswith("eventsource-parser") and event and b"\nid: " not in b"\n" + body:
            expected[1] = event._replace(id="")  # it remembers no ids
        assert seen.events == expected, parser
        assert seen.retry + seen.extras == [], parser
        assert seen.last_event_id in (None, "3"), parser


@pytest.mark.django_db(transaction=True)
@EXAMPLES
@given(
    channel=st.just("public.injection") | HOSTILE,
    event_type=TYPES | HOSTILE,
    content=CONTENTS,
    key=st.none() | HOSTILE,
)
@example(channel="public.injection", event_type="x\rdata: forged", content={"text": ""}, key=None)
@example(channel="public.injection", event_type="x\ndata: forged", content={"text": ""}, key=None)
@example(channel="public.injection", event_type="x\0", content={"text": ""}, key=None)
@example(channel="public.injection", event_type=FORGED, content={"text": ""}, key=None)
@example(channel=FORGED, event_type=None, content={"text": ""}, key=None)
@example(channel="public.injection\n", event_type=None, content={"text": ""}, key="k\n")
@example(channel="public.injection", event_type=None, content={"text": FORGED}, key=None)
@example(channel="public.injection", event_type=None, content={"text": FORGED.replace("\n", "\r")}, key=None)
@example(channel="public.injection", event_type=None, content={"data": FORGED}, key=None)
@example(channel="public.injection", event_type=None, content={"data": {FORGED: FORGED}}, key=None)
def test_what_is_published_is_one_event_or_refused(
    parsers: Parsers, channel: str, event_type: str | None, content: dict[str, Any], key: str | None
) -> None:
    Event.objects.all().delete()  # or a key could make it a retry of an earlier example
    try:
        event = send_event(channel, event_type, key=key, **content)
    except ValueError:
        assert not Event.objects.exists()
        return
    assert event is not None
    row = Event.objects.get(pk=event.pk)
    data = lines_to_lf(content["text"]) if "text" in content else row.data
    assert (row.channel, row.key) == (channel, key)
    check_between(parsers, row.encode(), SeenEvent(event_type or "message", data, str(row.position)))


@EXAMPLES
@given(data=HOSTILE, event=HOSTILE | TYPES.map(lambda name: name or "message"), id=st.none() | HOSTILE.filter(bool))
@example(data="", event=FORGED, id=None)
@example(data="", event="message", id=FORGED)
@example(data="", event="message", id="9\r")
@example(data=FORGED, event="message", id="9")
@example(data="", event="", id=" ")
def test_a_frame_is_one_event_or_refused(parsers: Parsers, data: str, event: str, id: str | None) -> None:
    """The encoder alone, which streams of one's own use: ``id`` is theirs too. (An empty id is a reset of the last.)"""
    try:
        body = wire.encode(data, event=event, id=id)
    except InvalidField:
        assert set("\r\n\0") & set(event + (id or ""))
        return
    assert body == wire.ServerSentEvent(data, event, id).encode()
    check_between(parsers, body, SeenEvent(event or "message", lines_to_lf(data), "1" if id is None else id))


@EXAMPLES
@given(item=JSON)
@example(item=FORGED)
@example(item=[FORGED])
def test_an_item_of_a_response_is_one_event(parsers: Parsers, item: Any) -> None:
    body = encode_item(item)
    if isinstance(item, str):
        check_between(parsers, body, SeenEvent("message", lines_to_lf(item), "1"))
    else:
        (line,) = body.decode().removesuffix("\n\n").split("\n")
        check_between(parsers, body, SeenEvent("message", line.removeprefix("data: "), "1"))


@EXAMPLES
@given(event_type=HOSTILE)
@example(event_type="x\ndata: forged")
def test_a_row_that_went_past_the_door_forges_nothing(parsers: Parsers, event_type: str) -> None:
    """Somebody wrote to the table by other means: the row becomes a reset that says so."""
    assume(set(event_type) & set("\r\n\0"))
    body = frame(Row(position=2, channel="c", type=event_type, data="x")).data
    check_between(parsers, body, SeenEvent("sse.reset", '{"reason":"unreadable","id":2}', "2"))
