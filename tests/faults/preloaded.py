"""The application of a project that has used everything before its server forks."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from tests.asgi import application

__all__ = ["application"]


async def _stream() -> None:
    from django_sse import asend_event
    from django_sse.stream import Stream

    stream = await Stream.open(["public.preloaded"], None)
    async with aclosing(aiter(stream)) as pieces:
        await anext(pieces)
        await asend_event("public.preloaded", text="before the fork")
        await anext(pieces)


def _use() -> None:
    from django.db import connections

    asyncio.run(_stream())
    connections.close_all()


_use()
