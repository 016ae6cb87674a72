"""Event streams as Django responses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpResponse, StreamingHttpResponse

from django_sse.detach import current_slot
from django_sse.encoders import EventEncoder, encode_item
from django_sse.source import Source

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from django_sse.detach import Body, Slot

__all__ = ["EventStreamResponse", "encode_item", "event_body"]

HEADERS: Final = {
    "Content-Type": "text/event-stream; charset=utf-8",
    # Nobody on the way may keep, share or change it; nginx and compressing middleware must not collect it either.
    "Cache-Control": "no-cache, no-store, private, no-transform",
    "Content-Encoding": "identity",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}
"""Never ``Connection``: WSGI refuses it, HTTP/2 forbids it, and ASGI servers then send two."""


class FrameResponse(StreamingHttpResponse):
    """A response of type ``text/event-stream`` whose body are the frames that ``frames`` yields, as they are."""

    def __init__(
        self, frames: Body | Iterable[bytes], *, slot: Slot | None, headers: Mapping[str, str] = {}, **kwargs: Any
    ) -> None:
        """``slot``: where ``frames`` are left, to be written once the request has ended."""
        content: AsyncIterable[bytes] | Iterable[bytes]
        detached: Mapping[str, str] = {}
        if isinstance(frames, Iterable):
            content = frames
        else:
            content = _without_connections(frames)
            if slot is not None:
                content, detached = slot.offer(frames, content)
        super().__init__(content, headers={**HEADERS, **headers, **detached}, **kwargs)


class EventStreamResponse(FrameResponse):
    """A response whose events are what ``source`` yields, each sent at once; then ``done``.

    ``source``: an iterable, async or sync, of events, dicts or text (see ``encode_item``), under any server. A sync one
    runs in a thread of its own under ASGI.
    ``encoder``: what to write instead of our own events, see ``django_sse.encoders``.

    The source is never more than a few items before the socket, and is cancelled when the client leaves. While it
    thinks, a comment goes out every ``HEARTBEAT`` seconds. If it raises, the log has the traceback and the client gets
    ``sse.error`` and ``done``.

    Nothing is resumed: a browser's EventSource that is not closed on ``done`` asks again and starts the source again.
    """

    def __init__(
        self,
        source: AsyncIterable[object] | Iterable[object],
        *,
        encoder: EventEncoder | None = None,
        headers: Mapping[str, str] = {},
        **kwargs: Any,
    ) -> None:
        encoder = encoder or EventEncoder()
        self._source = Source(source, encoder)
        slot = current_slot.get()
        frames = self._source if slot is not None or isinstance(source, AsyncIterable) else self._source.frames()
        super().__init__(frames, slot=slot, headers={**encoder.headers, **headers}, **kwargs)

    def __iter__(self) -> Iterator[bytes]:
        # Django would collect the whole of an async source first, and the whole of a sync one below.
        return self._source.frames() if self.is_async else super().__iter__()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        try:
            async for data in super().__aiter__() if self.is_async else _without_connections(self._source):
                yield data
        finally:
            self._source.end()  # now, and not when the generators inside are collected


def event_body(body: bytes) -> HttpResponse:
    """Return a response of type ``text/event-stream`` that is complete: the browser reads it and comes back."""
    return HttpResponse(body, headers=HEADERS)


async def _without_connections(frames: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    # By now the middleware has run: the stream may be open for hours and needs no database connection of the request.
    await sync_to_async(_close_connections)()
    items = aiter(frames)
    try:
        async for data in items:
            yield data
    finally:  # now, and not when the garbage collector comes: the client that left counts until then
        if isinstance(items, AsyncGenerator):
            await items.aclose()


def _close_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # a test's transaction
            connection.close()
