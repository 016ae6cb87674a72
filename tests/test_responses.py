from __future__ import annotations

import asyncio
import gzip
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.http import HttpRequest
from django.middleware.gzip import GZipMiddleware
from django.test import AsyncClient
from django.urls import path

from django_sse.detach import Slot, current_slot
from django_sse.models import Event
from django_sse.responses import HEADERS, EventStreamResponse, encode_item, event_body
from django_sse.source import AHEAD
from django_sse.testing import Parser, ReceivedEvent
from django_sse.wire import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.mark.parametrize(
    ("item", "frame"),
    [
        ("two\nlines", b"data: two\ndata: lines\n\n"),
        ({"é": 1}, 'data: {"é":1}\n\n'.encode()),
        (None, b"data: null\n\n"),
        (b": raw\n\n", b": raw\n\n"),
        (ServerSentEvent("a"), b"data: a\n\n"),
        (ServerSentEvent("a", event="token", id="7"), b"id: 7\nevent: token\ndata: a\n\n"),
        (Event(position=41, type="status", data="1"), b"id: 41\nevent: status\ndata: 1\n\n"),
    ],
)
def test_items(item: object, frame: bytes) -> None:
    assert encode_item(item) == frame


@pytest.mark.parametrize(
    "item", [object(), float("nan"), "\ud800", ServerSentEvent("a", event="x\n"), ServerSentEvent("a", id="\0")]
)
def test_what_cannot_be_sent_is_an_error(item: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode_item(item)


def whole(frames: bytes) -> bytes:
    return b"id: 0\n\n" + frames + b'event: done\ndata: {"reason":"end"}\n\n'


async def tokens() -> AsyncIterator[object]:
    yield "first"
    yield {"second": 2}


async def view(request: HttpRequest) -> EventStreamResponse:
    await Event.objects.acount()
    return EventStreamResponse(tokens(), headers={"X-Mine": "1"}, status=200)


urlpatterns = [path("tokens/", view)]


@pytest.mark.django_db(transaction=True)
async def test_a_source_of_ones_own(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    response: Any = await AsyncClient().get("/tokens/")
    assert response["X-Mine"] == "1"
    assert {name: response[name] for name in HEADERS} == HEADERS
    assert b"".join([piece async for piece in response.streaming_content]) == whole(
        b'data: first\n\ndata: {"second":2}\n\n'
    )


@pytest.mark.django_db(transaction=True)
def test_the_request_gives_its_connection_back_before_the_first_event(settings: Any) -> None:
    from asgiref.sync import async_to_sync

    async def first() -> None:
        response: Any = await view(HttpRequest())
        pieces = aiter(response.streaming_content)
        await anext(pieces)
        await pieces.aclose()

    connection.ensure_connection()
    async_to_sync(first)()
    assert connection.connection is None


@pytest.mark.django_db
async def test_a_tests_transaction_keeps_its_connection() -> None:
    response: Any = EventStreamResponse(tokens_without_a_look())
    assert b"".join([piece async for piece in response.streaming_content]) == whole(b"data: 1\n\n")
    assert await Event.objects.acount() == 0


async def tokens_without_a_look() -> AsyncIterator[object]:
    yield 1


def test_without_asgi_a_source_is_sync() -> None:
    response = EventStreamResponse(iter(["a", {"b": 1}]))
    assert b"".join(response) == whole(b'data: a\n\ndata: {"b":1}\n\n')


class Producer:
    """A source that says what becomes of it: ``steps`` are items, seconds to think, what to wait for, or exceptions to
    raise."""

    def __init__(self, *steps: object) -> None:
        self.steps = steps
        self.made = 0
        self.closed = threading.Event()

    async def items(self) -> AsyncIterator[object]:
        try:
            # Belongs to the task that entered it: a producer whose steps ran in several could not have it.
            async with asyncio.timeout(60):
                for step in self.steps:
                    if isinstance(step, Exception):
                        raise step
                    if isinstance(step, float):
                        await asyncio.sleep(step)
                        continue
                    if isinstance(step, threading.Event):
                        assert await asyncio.to_thread(step.wait, 30)
                        continue
                    self.made += 1
                    yield step
        finally:
            self.closed.set()

    def sync_items(self) -> Iterator[object]:
        try:
            for step in self.steps:
                if isinstance(step, Exception):
                    raise step
                if isinstance(step, float):
                    time.sleep(step)
                    continue
                if isinstance(step, threading.Event):
                    assert step.wait(30)
                    continue
                self.made += 1
                yield step
        finally:
            self.closed.set()


def kinds(producer: Producer) -> list[Any]:
    return [producer.items, producer.sync_items]


BOTH = pytest.mark.parametrize("kind", [0, 1], ids=["async", "sync"])
LONG = 3600.0


@BOTH
@pytest.mark.django_db
async def test_the_first_item_does_not_wait_for_the_second(kind: int) -> None:
    go = threading.Event()
    pieces = aiter(EventStreamResponse(kinds(Producer("first", go, "second"))[kind]()))
    try:
        async with asyncio.timeout(10):
            assert await anext(pieces) == b"id: 0\n\n"
            assert await anext(pieces) == b"data: first\n\n"
    finally:
        go.set()
        await pieces.aclose()


@BOTH
@pytest.mark.django_db
async def test_silence_gets_a_heartbeat_that_fires_nothing(kind: int, settings: Any) -> None:
    settings.DJANGO_SSE = {"HEARTBEAT": 0.05}
    go, body = threading.Event(), b""
    try:
        async with asyncio.timeout(10):
            async for piece in EventStreamResponse(kinds(Producer("a", go, "b"))[kind]()):
                body += piece
                if body.count(b":\n\n") == 2:
                    go.set()
    finally:
        go.set()
    events = Parser().feed(body)
    assert [(event.type, event.data) for event in events] == [
        ("message", "a"),
        ("message", "b"),
        ("done", '{"reason":"end"}'),
    ]


@BOTH
@pytest.mark.parametrize("server", ["asgi", "wsgi"])
@pytest.mark.parametrize("step", [ValueError("secret"), object()], ids=["raised", "cannot be sent"])
@pytest.mark.django_db
def test_a_failure_is_said_without_its_reason(
    kind: int, server: str, step: object, caplog: pytest.LogCaptureFixture
) -> None:
    response = EventStreamResponse(kinds(Producer("a", step, "never"))[kind]())

    async def collect() -> bytes:
        return b"".join([piece async for piece in response])

    body = async_to_sync(collect)() if server == "asgi" else b"".join(response)
    assert [(event.type, event.data) for event in Parser().feed(body)] == [
        ("message", "a"),
        ("sse.error", '{"reason":"failed"}'),
        ("done", '{"reason":"failed"}'),
    ]
    assert b"secret" not in body
    assert "Traceback" in caplog.text


@pytest.mark.django_db
async def test_a_task_of_somebody_that_was_cancelled_is_a_failure_too(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody has ended the source, so its client would begin anew."""

    async def items() -> AsyncIterator[str]:
        yield "a"
        task = asyncio.create_task(asyncio.sleep(LONG))
        task.cancel()
        await task

    response = EventStreamResponse(items())
    body = b"".join([piece async for piece in response])
    assert [event.type for event in Parser().feed(body)] == ["message", "sse.error", "done"]
    assert "Traceback" in caplog.text


@pytest.mark.django_db
async def test_a_client_that_leaves_cancels_a_producer_that_thinks() -> None:
    producer = Producer("a", LONG)
    pieces = aiter(EventStreamResponse(producer.items()))
    await anext(pieces)
    await anext(pieces)
    await pieces.aclose()
    assert await asyncio.to_thread(producer.closed.wait, 5)


@BOTH
@pytest.mark.django_db
async def test_a_producer_runs_only_a_little_ahead_of_the_socket(kind: int) -> None:
    producer = Producer(*map(str, range(10_000)))
    pieces = aiter(EventStreamResponse(kinds(producer)[kind]()))
    taken = 0
    for _ in range(5):
        taken += (await anext(pieces)).count(b"data:")
        for _ in range(50):
            await asyncio.sleep(0.001)  # all the time that it needs to run away
    assert 0 < taken <= producer.made <= taken + 2 * AHEAD
    await pieces.aclose()


@pytest.mark.django_db
async def test_items_that_are_there_leave_as_one_write() -> None:
    pieces = [piece async for piece in EventStreamResponse(Producer(*map(str, range(100))).items())]
    assert Parser().feed(b"".join(pieces))[:100] == [ReceivedEvent("message", str(n), "0") for n in range(100)]
    assert len(pieces) < 50


def test_without_asgi_an_async_source_streams_too() -> None:
    producer = Producer("a", "b", 0.01, "c")
    pieces = iter(EventStreamResponse(producer.items()))
    body = next(pieces) + next(pieces)
    assert not producer.closed.is_set()
    assert body + b"".join(pieces) == whole(b"data: a\n\ndata: b\n\ndata: c\n\n")
    assert producer.closed.is_set()


@BOTH
def test_without_asgi_a_client_that_leaves_closes_the_source(kind: int) -> None:
    producer = Producer("a", "b", LONG)
    response = EventStreamResponse(kinds(producer)[kind]())
    pieces: Any = iter(response)
    next(pieces)
    next(pieces)
    response.close() if kind else pieces.close()
    assert producer.closed.is_set()


class Rows:
    """An iterable that asks the database as it begins, as a queryset does."""

    def __iter__(self) -> Iterator[int]:
        return iter([Event.objects.count()])


@pytest.mark.parametrize("server", ["detached", "asgi", "wsgi"])
@pytest.mark.django_db(transaction=True)
def test_to_begin_may_be_a_query(server: str) -> None:
    async def collect() -> bytes:
        token = current_slot.set(Slot() if server == "detached" else None)
        try:
            return b"".join([piece async for piece in EventStreamResponse(Rows())])
        finally:
            current_slot.reset(token)

    body = b"".join(EventStreamResponse(Rows())) if server == "wsgi" else async_to_sync(collect)()
    assert body == whole(b"data: 0\n\n")


def test_a_complete_body() -> None:
    response = event_body(b"retry: 1\n\n")
    assert response.content == b"retry: 1\n\n"
    assert {name: response[name] for name in HEADERS} == HEADERS


def test_compressing_middleware_leaves_it_alone() -> None:
    request = HttpRequest()
    request.META["HTTP_ACCEPT_ENCODING"] = "gzip"
    middleware = GZipMiddleware(lambda request: event_body(b"data: " + b"x" * 1000 + b"\n\n"))
    response: Any = middleware(request)
    assert response["Content-Encoding"] == "identity"
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(response.content)
