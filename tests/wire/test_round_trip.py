"""What was published is what arrives: through the database, the encoder and four parsers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.test import Client
from hypothesis import example, given
from hypothesis import strategies as st

from django_sse import send_event, send_events
from django_sse.models import Event
from tests.wire.parsers import SeenEvent, lines_to_lf
from tests.wire.strategies import CONTENTS, EXAMPLES, TEXTS, TYPES

if TYPE_CHECKING:
    from tests.wire.parsers import Parsers

pytestmark = pytest.mark.django_db(transaction=True)

CHANNEL = "public.round-trip"


def reread(events: list[Event | None]) -> list[Event]:
    """The same events as another process finds them."""
    keys = [event.pk for event in events if event]
    return list(Event.objects.filter(pk__in=keys).order_by("position"))


@EXAMPLES
@given(items=st.lists(st.tuples(TYPES, CONTENTS), min_size=1, max_size=4))
@example(items=[(None, {"text": ""})])
@example(items=[(None, {"text": "\n"}), ("a", {"text": "\r"}), ("b", {"text": "\r\n"}), (None, {"text": "\n\r"})])
@example(items=[(None, {"text": "\0"}), (None, {"text": "\x10\0\x100\x10\x10\0"}), (None, {"data": "\0\x10"})])
@example(items=[(None, {"text": "\ufeff"}), (None, {"text": " \u2028 \u2029 \x85 "}), (" ", {"text": "  a"})])
@example(items=[("data", {"text": "data: a\n\nid: 9\nevent: b\n: c\nretry: 1"}), (":", {"text": ":"})])
@example(items=[(None, {"data": {"": [None, True, 1e300, -0.0, "\u2028</script>\ud7ff\U0010ffff"]}})])
def test_what_is_published_arrives(parsers: Parsers, items: list[tuple[str | None, dict[str, Any]]]) -> None:
    published = send_events([{"channel": CHANNEL, "event_type": name, **content} for name, content in items])
    rows = reread(published)
    body = b"".join(row.encode() for row in rows)
    expected = []
    for row, (name, content) in zip(rows, items, strict=True):
        data = lines_to_lf(content["text"]) if "text" in content else row.data
        if "data" in content:
            assert json.dumps(json.loads(data)) == json.dumps(content["data"])  # so that 1 is not True
        expected.append(SeenEvent(name or "message", data, str(row.position)))
    for parser, seen in parsers(body).items():
        assert seen.events == expected, parser
        assert seen.retry + seen.extras == [], parser


@EXAMPLES
@given(text=TEXTS)
@example(text="\0")
@example(text="\x10\0")
@example(text="\0\x10")
@example(text="\x10" * 3 + "\0" + "\x10" * 2 + "0")
def test_the_column_gives_back_every_text(text: str) -> None:
    event = send_event(CHANNEL, text=text)
    assert event is not None
    assert Event.objects.get(pk=event.pk).data == text
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT data FROM {Event._meta.db_table} WHERE id = %s", [event.pk])
        (stored,) = cursor.fetchone()
    assert "\0" not in stored, "PostgreSQL cannot hold NUL"


@EXAMPLES
@given(texts=st.lists(TEXTS, min_size=1, max_size=3), cut=st.floats(0, 1))
def test_a_stream_cut_anywhere_is_completed_by_id(parsers: Parsers, texts: list[str], cut: float) -> None:
    """A frame that was cut is dropped; the browser comes back with the last id it had, and nothing is lost or twice."""
    start = send_event(CHANNEL, "before", text="")
    assert start is not None
    published = send_events([{"channel": CHANNEL, "event_type": "cut", "text": text} for text in texts])
    expected = [
        SeenEvent("cut", lines_to_lf(text), str(row.position))
        for text, row in zip(texts, published, strict=True)
        if row
    ]
    body = get_stream(str(start.position))
    first = parsers(body[: round(cut * len(body))])
    resumed: dict[str, dict[str, Any]] = {}
    for parser, seen in first.items():
        last = seen.last_event_id or (seen.events[-1].id if seen.events else "") or str(start.position)
        if last not in resumed:
            resumed[last] = parsers(get_stream(last))
        rest = resumed[last][parser].events
        assert real(seen.events) + real(rest) == expected, parser


def get_stream(last_event_id: str) -> bytes:
    """Everything that a browser which comes back with this id is owed: under WSGI the body then ends."""
    response = Client().get(f"/events/?channel={CHANNEL}", headers={"Last-Event-ID": last_event_id})
    assert response.status_code == 200
    return bytes(response.content)


def real(events: list[SeenEvent]) -> list[SeenEvent]:
    """Without what httpx-sse makes of blocks that hold only an id or a reconnection time."""
    return [event for event in events if event.type == "cut"]
