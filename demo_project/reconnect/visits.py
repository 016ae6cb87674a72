"""The open streams of the reconnect page, so that the server can cut one.

Kept in the memory of this process and for its one event loop, which is how ``manage.py demo`` serves.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django_sse import send_event
from django_sse.signals import stream_closed, stream_opened

if TYPE_CHECKING:
    from django_sse.stream import Stream

__all__ = ["Arrival", "arrive", "channel_of", "cut", "watch"]

_PREFIX: Final = "public.reconnect."
_WAITING: Final = 1000
"""Arrivals remembered whose streams did not open: a client may hang up in between."""


class Arrival(NamedTuple):
    """What a request for a stream presented."""

    last_event_id: str | None
    since: str | None


class _Visit(NamedTuple):
    stream: Stream
    closed: asyncio.Event


_arrivals: OrderedDict[str, Arrival] = OrderedDict()
_visits: dict[str, _Visit] = {}


def channel_of(run: str) -> str:
    """Return the channel of one page's run: nobody else's events are in it."""
    return _PREFIX + run


def arrive(run: str, arrival: Arrival) -> None:
    """Remember what a request presented until its stream is open and can be told."""
    _arrivals[channel_of(run)] = arrival
    while len(_arrivals) > _WAITING:
        _arrivals.popitem(last=False)


async def cut(run: str) -> bool:
    """End the run's stream cleanly and return when it has ended; False: there is none."""
    visit = _visits.get(channel_of(run))
    if visit is None:
        return False
    visit.stream.end()
    await visit.closed.wait()
    return True


def watch() -> None:
    stream_opened.connect(_opened)
    stream_closed.connect(_closed)


def _channel(stream: Stream) -> str | None:
    return next((name for name in stream.channels if name.startswith(_PREFIX)), None)


async def _opened(stream: Stream, **_kwargs: Any) -> None:
    channel = _channel(stream)
    if channel is None:
        return
    _visits[channel] = _Visit(stream, asyncio.Event())
    arrival = _arrivals.pop(channel, Arrival(None, None))
    # In passing: without an id it does not move the browser's last event ID, which this page is about.
    hello = {**arrival._asdict(), "position": stream.start.position, "reason": stream.start.reason}
    send_event(channel, "hello", hello, store=False)


async def _closed(stream: Stream, **_kwargs: Any) -> None:
    channel = _channel(stream)
    visit = _visits.get(channel) if channel else None
    # A client that came back before its old connection was noticed to be dead has a newer visit.
    if channel and visit and visit.stream is stream:
        del _visits[channel]
        visit.closed.set()
