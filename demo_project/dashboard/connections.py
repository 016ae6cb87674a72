"""How many streams are open in this process, counted with django_sse's two signals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django_sse.signals import stream_closed, stream_opened

if TYPE_CHECKING:
    from django_sse.stream import Stream

__all__ = ["count", "watch"]

_open: set[int] = set()


# Async, because a sync receiver would be called in a thread, for every stream.
async def _opened(stream: Stream, **_kwargs: Any) -> None:
    _open.add(id(stream))


async def _closed(stream: Stream, **_kwargs: Any) -> None:
    _open.discard(id(stream))


def watch() -> None:
    stream_opened.connect(_opened)
    stream_closed.connect(_closed)


def count() -> int:
    return len(_open)
