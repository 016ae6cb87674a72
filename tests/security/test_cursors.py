"""What a client says about where it is: odd forms are answered by a reset, never by a traceback or a query."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, quote_from_bytes

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient, Client
from django.urls import path

from django_sse import asend_event, hub, log, reader, retention
from django_sse.testing import Parser, listen
from django_sse.views import EventStreamView
from tests.security.waiting import counting, until

pytestmark = pytest.mark.usefixtures("committed")

urlpatterns = [path("fixed/", EventStreamView.as_view(channels=["a"]))]

AHEAD = [str(10**6), str(2**31), str(2**32), str(2**53), str(2**63 - 1), str(2**63), "9" * 19]
MALFORMED = [
    "-1",
    "+1",
    "00",
    "01",
    "1.0",
    "1e3",
    "0x1",
    "1_000",
    "1,1",
    "1, 2",
    "1 ",
    " 1",
    "1\t",
    "1;2",
    str(2**64),
    "9" * 20,
    "9" * 6000,
    "²",
    "\u0661",  # Arabic-Indic 1
    "\uff11",  # full width 1
    "\u0967",  # Devanagari 1
    "\U0001d7d9",  # double-struck 1
    "Ⅷ",
    "NaN",
    "null",
    "None",
    "true",
    "[1]",
    "1\u0661",
    "1\uff11",
    "1' OR '1'='1",
    "1\x00",
    "\x00",
    "1\u200b",
    "\u202e1",
    "1\r2",
    "1\n",
]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


async def first(address: str, **headers: str) -> Any:
    response: Any = await AsyncClient().get(address, headers=headers)
    assert response.status_code == 200
    pieces = aiter(response.streaming_content)
    parser = Parser()
    events = parser.feed(await anext(pieces))
    await pieces.aclose()
    await response._iterator.aclose()
    return events[0] if events else None, parser.last_event_id


@pytest.mark.parametrize(
    ("presented", "reason"),
    [(text, "ahead") for text in AHEAD] + [(text, "malformed") for text in MALFORMED],
    ids=ascii,
)
async def test_it_is_answered_by_a_reset(presented: str, reason: str) -> None:
    await asend_event("a", None, 1)
    expected = f'{{"reason":"{reason}","id":1}}'
    event, at = await first(f"/fixed/?since={quote(presented)}")
    assert (event.type, event.data, at) == ("sse.reset", expected, "1")
    if presented.isprintable() and presented.strip() == presented:
        event, at = await first("/fixed/", **{"Last-Event-ID": presented.encode().decode("latin-1")})
        assert (event.type, event.data, at) == ("sse.reset", expected, "1")
    polled = await sync_to_async(Client().get)(f"/fixed/?since={quote(presented)}")
    assert Parser().feed(polled.content)[0].data == expected


@pytest.mark.parametrize("presented", [b"\xff", b"\xc0\xb1", b"1\xed\xa0\x80", b"\xe2\x82"])
async def test_what_is_not_utf_8(presented: bytes) -> None:
    await asend_event("a", None, 1)
    event, _ = await first(f"/fixed/?since={quote_from_bytes(presented)}")
    assert event.data == '{"reason":"malformed","id":1}'
    factory: Any = AsyncClient()
    response = await factory.get("/fixed/", headers={"Last-Event-ID": presented.decode("latin-1")})
    body = await anext(aiter(response.streaming_content))
    assert b'"reason":"malformed"' in body
    await response._iterator.aclose()


async def test_given_twice() -> None:
    for number in range(3):
        await asend_event("a", None, number)
    event, _ = await first("/fixed/?since=1&since=2x")
    assert event.data == '{"reason":"malformed","id":3}'
    async with listen(
        AsyncClient(), "/fixed/?since=1&since=2"
    ) as events:  # the last one counts, as everywhere in Django
        assert (await events.next()).json() == 2
    event, _ = await first("/fixed/", **{"Last-Event-ID": "1,2"})  # how servers join two headers
    assert event.data == '{"reason":"malformed","id":3}'


async def test_an_empty_one_is_none() -> None:
    await asend_event("a", None, 1)
    assert await first("/fixed/?since=") == (None, "1")
    assert await first("/fixed/", **{"Last-Event-ID": ""}) == (None, "1")


async def test_it_costs_no_query(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's one look serves everybody; none of these reaches the database, nor has the hub's threads read it."""
    settings.DJANGO_SSE = {"POLL_INTERVAL": 60}
    read: list[str] = []

    def noted(name: str, function: Any) -> Any:
        def note(*args: Any) -> Any:
            read.append(name)
            return function(*args)

        return note

    monkeypatch.setattr(hub, "page", noted("page", hub.page))
    monkeypatch.setattr(log, "cursor_before_last", noted("last", log.cursor_before_last))
    await asend_event("a", None, 1)
    async with listen(AsyncClient(), "/fixed/"), counting() as queries:
        for presented in [*AHEAD, *MALFORMED]:
            await first(f"/fixed/?since={quote(presented)}")
        assert (queries, read) == ([], [])
    async with listen(AsyncClient(), "/fixed/?since=0&last=1") as events:  # one that makes sense is noted
        assert (await events.next()).json() == 1
    assert read == ["last", "page"]


async def test_one_that_makes_no_sense_costs_no_read_of_the_hub(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that is ahead the hub must see whether it is."""
    settings.DJANGO_SSE = {"POLL_INTERVAL": 60}
    reads: list[Any] = []

    def noted(*args: Any) -> Any:
        reads.append(args)
        return reader.look(*args)

    monkeypatch.setattr("django_sse.hub.look", noted)
    await asend_event("a", None, 1)
    async with listen(AsyncClient(), "/fixed/"):
        await until(lambda: len(reads) >= 2)  # the first, and one for the listener, which hears from then on
        begun = len(reads)
        for presented in MALFORMED:
            for last in (0, 10):
                event, _ = await first(f"/fixed/?since={quote(presented)}&last={last}")
                assert event.data == '{"reason":"malformed","id":1}'
        assert len(reads) == begun


async def test_one_that_was_trimmed_is_expired() -> None:
    for number in range(5):
        await asend_event("a", None, number)
    await sync_to_async(retention.trim)(keep=2)
    assert (await first("/fixed/?since=2"))[0].data == '{"reason":"expired","id":5}'
    assert (await first("/fixed/?since=3"))[0] is None


async def test_a_foreign_one_reads_nothing_foreign() -> None:
    """Positions count all channels: a client may present any, and is sent its own channels' events alone."""
    for channel in ("b", "a", "b", "a", "b"):
        await asend_event(channel, None, channel)
    for since in range(6):
        parser = Parser()
        polled = await sync_to_async(Client().get)(f"/fixed/?since={since}")
        assert {event.data for event in parser.feed(polled.content)} <= {'"a"'}
        assert parser.last_event_id == "5"
