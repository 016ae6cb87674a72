"""How a stream ends, or that it goes on."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from django_sse import asend_event

if TYPE_CHECKING:
    from django_sse.testing import EventReader

__all__ = ["body", "farewell", "is_open"]


async def body(response: Any, seconds: float = 30) -> bytes:
    """Return all of a response that is complete, or a stream that is to end."""
    if not response.streaming:
        return response.content
    async with asyncio.timeout(seconds):
        return b"".join([piece async for piece in response.streaming_content])


async def farewell(events: EventReader) -> str:
    """Return the reason with which the stream ends."""
    event = await events.next()
    assert event.type == "sse.close", event
    with pytest.raises(EOFError):
        await events.next()
    return json.loads(event.data)["reason"]


async def is_open(events: EventReader, channel: str) -> None:
    await asend_event(channel, None, "still")
    assert (await events.next()).json() == "still"
