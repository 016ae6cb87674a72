"""The client's end of a request, without a server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from django_sse.connection import Connection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


class Body:
    """One piece, and then the end, when it is told to."""

    def __init__(self) -> None:
        self.told = asyncio.Event()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        yield b"piece"
        await self.told.wait()

    def end(self) -> None:
        self.told.set()


async def silence() -> dict[str, Any]:
    await asyncio.Event().wait()
    raise AssertionError


async def taken(message: dict[str, Any]) -> None:
    pass


async def test_a_connection_that_comes_as_the_last_has_gone_is_still_watched() -> None:
    """The sweep that finds nobody ends itself, and must not take those with it who came in between."""
    first, second = Body(), Body()
    first.end()
    patience = 0.05
    await Connection(silence, taken).serve(first, patience)
    serving = asyncio.create_task(Connection(silence, taken).serve(second, patience))
    await asyncio.sleep(4 * patience)  # the first one's sweep is over
    assert len(Connection._writing[asyncio.get_running_loop()]) == 1
    second.end()
    await serving
