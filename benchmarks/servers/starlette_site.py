"""sse-starlette with a queue a client, as its documentation has it: memory only, no login."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.servers.event import data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

_queues: set[asyncio.Queue[dict[str, str]]] = set()


async def events(request: Request) -> EventSourceResponse:
    queue: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    _queues.add(queue)

    async def body() -> AsyncIterator[dict[str, str]]:
        try:
            yield {"comment": "open"}
            while True:
                yield await queue.get()
        finally:
            _queues.discard(queue)

    return EventSourceResponse(body())


async def publish(request: Request) -> Response:
    first, count = int(request.query_params["first"]), int(request.query_params["count"])
    for number in range(first, first + count):
        event = {"id": str(number), "data": data(number)}
        for queue in _queues:
            queue.put_nowait(event)
    return Response()


application = Starlette(routes=[Route("/events/", events), Route("/publish/", publish, methods=["POST"])])
