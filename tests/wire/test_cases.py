"""The cases of the Web Platform Tests, and the bytes that django_sse writes around events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_sse import send_event, wire
from django_sse.models import Event
from django_sse.stream import retry
from tests.wire.cases import AWKWARD, BODIES, PUBLISHED, Body, Published
from tests.wire.parsers import SeenEvent, lines_to_lf
from tests.wire.strategies import EXAMPLES

if TYPE_CHECKING:
    from tests.wire.parsers import Parsers, Seen


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: f"{case.wpt} {case.type} {case.text[:20]!r}")
def test_published(parsers: Parsers, case: Published) -> None:
    event = send_event("public.wpt", case.type, text=case.text)
    assert event is not None
    for parser, seen in parsers(Event.objects.get(pk=event.pk).encode()).items():
        assert seen.events == [SeenEvent(*case.seen, str(event.position))], parser


def test_awkward_texts(parsers: Parsers) -> None:
    body = b"".join(wire.encode(text, id=str(number)) for number, text in enumerate(AWKWARD, 1))
    for parser, seen in parsers(body).items():
        for number, (text, event) in enumerate(zip(AWKWARD, seen.events, strict=True), 1):
            assert event == SeenEvent("message", lines_to_lf(text), str(number)), parser


@pytest.mark.parametrize("case", BODIES, ids=lambda case: case.name)
def test_bodies(parsers: Parsers, case: Body) -> None:
    for parser, seen in parsers(case.body).items():
        assert events(parser, seen.events) == events(parser, case.events), parser
        assert seen.last_event_id in (None, case.last_event_id), parser
        assert seen.retry == case.retry, parser
        assert not any(seen.extras), parser


def events(parser: str, events: list[SeenEvent]) -> list[SeenEvent]:
    """``events`` as far as ``parser`` can know them: see ``tests.wire.parsers``."""
    if parser.startswith("httpx-sse"):
        return [event for event in events if event.data]
    if parser.startswith("eventsource-parser"):
        return [event._replace(id="") for event in events]
    return events


def test_every_parser_tells_two_events_apart(parsers: Parsers) -> None:
    """The judges themselves: a body that differs in one place is not the same to any of them."""
    good = wire.encode("a\nb", event="t", id="5")
    right: dict[str, Seen] = parsers(good)
    for old, new in [(b"data: b", b"data:  b"), (b"event", b"Event"), (b"id: 5", b"id: 6"), (b"\n\n", b"\n")]:
        for parser, seen in parsers(good.replace(old, new)).items():
            assert seen.events != right[parser].events, f"{parser} does not mind {new!r}"


@EXAMPLES
@given(milliseconds=st.integers(0, 10**9))
def test_a_reconnection_time_is_digits_only(milliseconds: int) -> None:
    assert re.fullmatch(rb"retry: [0-9]+\n\n", wire.retry(milliseconds))


@EXAMPLES
@given(milliseconds=st.floats(0.001, 1e7))
def test_the_jittered_reconnection_time_is_digits_only(settings: object, milliseconds: float) -> None:
    settings.DJANGO_SSE = {"RETRY": milliseconds}  # type: ignore[attr-defined]
    found = re.fullmatch(rb"retry: ([0-9]+)\n\n", retry())
    assert found
    assert milliseconds * 0.5 - 1 <= int(found[1]) <= milliseconds * 1.5 + 1
