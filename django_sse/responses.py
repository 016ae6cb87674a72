"""Event streams as Django responses."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import TYPE_CHECKING, Any, Final

from asgiref.sync import sync_to_async
from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections
from django.http import HttpResponse, StreamingHttpResponse

from django_sse import wire
from django_sse.models import Event
from django_sse.wire import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

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


def encode_item(item: object) -> bytes:
    """Return one item of a source as a frame.

    bytes are frames already; an ``Event`` or ``ServerSentEvent`` is itself; text is the data of an unnamed event, and
    any other JSON value is encoded to it. Raises ``ValueError`` or ``TypeError`` for what cannot be sent.
    """
    if isinstance(item, bytes):
        return item
    if isinstance(item, Event | ServerSentEvent):
        return item.encode()
    if not isinstance(item, str):
        item = json.dumps(item, cls=DjangoJSONEncoder, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return wire.encode(item)


class EventStreamResponse(StreamingHttpResponse):
    """A response of type ``text/event-stream`` whose events are what ``source`` yields, each sent at once.

    ``source``: an iterable of events, dicts or text (see ``encode_item``), async under ASGI, sync under WSGI.
    """

    def __init__(self, source: AsyncIterable[object] | Iterable[object], **kwargs: Any) -> None:
        frames = _aencode(source) if isinstance(source, AsyncIterable) else map(encode_item, source)
        super().__init__(frames, headers={**HEADERS, **kwargs.pop("headers", {})}, **kwargs)


def event_body(body: bytes) -> HttpResponse:
    """Return a response of type ``text/event-stream`` that is complete: the browser reads it and comes back."""
    return HttpResponse(body, headers=HEADERS)


async def _aencode(source: AsyncIterable[object]) -> AsyncIterator[bytes]:
    # By now the middleware has run: the stream may be open for hours and needs no database connection of the request.
    await sync_to_async(_close_connections)()
    items = aiter(source)
    try:
        async for item in items:
            yield encode_item(item)
    finally:  # now, and not when the garbage collector comes: the client that left counts until then
        if isinstance(items, AsyncGenerator):
            await items.aclose()


def _close_connections() -> None:
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # a test's transaction
            connection.close()
