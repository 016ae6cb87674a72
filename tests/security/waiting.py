from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import connection

from django_sse.hub import Hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["counting", "until", "watching"]


async def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait until ``condition()`` is true."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


def watching() -> Any:
    """Return the warden of the running loop."""
    return Hub.current().warden


@asynccontextmanager
async def counting() -> AsyncIterator[list[str]]:
    """Give a list of the queries that requests of the test client make until the end of the block."""
    queries: list[str] = []

    def note(execute: Any, sql: str, *args: Any) -> Any:
        queries.append(sql)
        return execute(sql, *args)

    wrapper = await sync_to_async(lambda: connection.execute_wrapper(note))()
    await sync_to_async(wrapper.__enter__)()
    try:
        yield queries
    finally:
        await sync_to_async(wrapper.__exit__)(None, None, None)
