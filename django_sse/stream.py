"""One connection: a cursor that walks the log until the client or the clock ends it."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

from django.db import Error as DatabaseFailure
from django.dispatch import Signal

from django_sse import allowance, drain, log, wire
from django_sse.clock import Clock
from django_sse.conf import settings
from django_sse.cursor import judge
from django_sse.hub import Hub
from django_sse.reader import PAGE
from django_sse.warden import Warden

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import AsyncGenerator, Callable, Iterable

    from django_sse.clock import Alarm
    from django_sse.cursor import Cursor
    from django_sse.grant import Grant

__all__ = ["Start", "Stream", "long_retry", "retry", "start", "stream_closed", "stream_opened"]

logger = logging.getLogger(__name__)

stream_opened = Signal()
"""Sent with ``stream`` when a client is connected; ``stream.channels`` and ``stream.cursor`` say where it is."""
stream_closed = Signal()
"""Sent with ``stream`` when the connection has ended, whoever ended it."""

EPHEMERAL: Final = 100
"""Ephemeral events kept for a client that does not read; the oldest go first."""
FIRST_PAGE: Final = 100
"""Rows of a replay's first page; pages then grow or shrink with the size of the events."""


def _jitter(value: float, low: float, high: float) -> float:
    """Spread clients in time: those that were cut together must not come back together."""
    return value * random.uniform(low, high)


def retry() -> bytes:
    """Return the reconnection time of one connection: 50 to 150 % of ``RETRY``."""
    return wire.retry(round(_jitter(settings.RETRY, 0.5, 1.5)))


def long_retry() -> bytes:
    """Return the reconnection time of a client that has too much open already: 30 to 90 seconds."""
    return wire.retry(round(_jitter(60_000, 0.5, 1.5)))


class Start(NamedTuple):
    """Where a client begins: at ``position``; with the ``reason`` for which its cursor could not be served; ``fresh``
    when it presented none."""

    position: int
    reason: str | None = None
    fresh: bool = False

    @property
    def needs_snapshot(self) -> bool:
        """Whether the client's cursor says nothing about the state it knows."""
        return self.fresh or self.reason is not None

    def opening(self, snapshot: bytes = b"", heartbeat: float | None = None) -> bytes:
        """Return the first bytes: from the first moment the browser holds an id to come back with.

        ``heartbeat``: seconds until the next, for a client that wants to hear them.
        """
        reset = wire.reset(self.position, self.reason) if self.reason else b""
        mark = wire.mark(self.position) if heartbeat is None else wire.heartbeat(self.position, heartbeat)
        return b"".join([retry(), reset, snapshot, mark])


class Stream:
    """What one client is sent, as an async iterator of bytes.

    Made by ``Stream.open``, which decides where it starts; iterated once. ``end()`` finishes it cleanly from the same
    loop, and the browser comes back by itself.
    """

    def __init__(self, channels: Iterable[str], start: Start) -> None:
        self.channels = frozenset(channels)
        self.cursor = start.position
        self.start = start
        self.snapshot = b""
        """Frames that go out first: whoever opened the stream may set them."""
        self.grant: Grant | None = None
        """Who opened it, where a right can end: whoever opened the stream may set it."""
        self._farewell = b""
        self.audible = False
        """Whether heartbeats are events, each on time whatever else is sent: a page hears only the types it listens
        for. Whoever opened the stream may set it."""
        self.writer: Callable[[bytes], bool] | None = None
        """Writes at once, without our task being woken. (``detach.Body``)"""
        self._hub: Hub | None = None
        self._ephemeral: deque[bytes] | None = None  # made when needed: an empty one has 600 bytes
        self._page = FIRST_PAGE
        self._ended = False
        self._waiter: Future[None] | None = None
        self._alarm: Alarm | None = None

    @classmethod
    async def open(cls, channels: Iterable[str], cursor: Cursor, *, last: int = 0) -> Stream:
        """Return a stream that starts after ``cursor``, and with the ``last`` events even if those are older.

        A cursor that cannot be served exactly starts with ``sse.reset`` and goes on live; ``None`` is live only.
        Raises what the database raises.
        """
        channels = frozenset(channels)
        hub = Hub.current()
        # Most cost no query: who was here a moment ago, who asks for nothing before this, who presents nonsense.
        if isinstance(cursor, int) and not last and hub.reaches(cursor):
            return cls(channels, Start(cursor))
        if cursor is None and not last and hub.started:
            return cls(channels, Start(hub.ring.head, fresh=True))
        if cursor == "malformed" and hub.started:
            return cls(channels, Start(hub.ring.head, cursor))
        reach = await hub.catch_up()
        before_last = await Hub.current().cursor_before_last(channels, last) if last else None
        return cls(channels, start(cursor, reach, before_last))

    def wake(self) -> None:
        """Look again at what is due. (``hub.Subscriber``)"""
        if self._waiter and not (self.writer and not self._waiter.done() and self._wrote(self.writer)):
            self._look()

    def _look(self) -> None:
        """Let our task look at what is due."""
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    def _wrote(self, writer: Callable[[bytes], bool]) -> bool:
        """Write what the ring has for us; False: that is not all that there is to do."""
        hub = self._hub
        if hub is None or self._ended or self._ephemeral or not hub.reaches(self.cursor):
            return False
        data, cursor = hub.ring.after(self.cursor, self.channels)
        if data:
            if not writer(data):
                return False
            if not self.audible:
                self._written_at = asyncio.get_running_loop().time()
        self.cursor = cursor
        return cursor == hub.ring.head

    def ephemeral(self, frame: bytes) -> None:
        """Send ``frame`` in passing: it has no position. (``hub.Subscriber``)"""
        if self._ephemeral is None:
            self._ephemeral = deque(maxlen=EPHEMERAL)
        self._ephemeral.append(frame)
        self._look()

    def end(self) -> None:
        """End the body after what is being written."""
        self._ended = True
        self._look()

    def close(self, reason: str, *, final: bool = True) -> None:
        """End the body with ``sse.close``, and send nothing before it that is not being written yet."""
        if not self._farewell:
            self._farewell = wire.close(reason, final=final)
            self.end()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        loop = asyncio.get_running_loop()
        hub = self._hub = Hub.current()
        warden = Warden.of(hub, self.grant.position) if self.grant else None
        if warden and not warden.watch(self):  # type: ignore[arg-type]  # it has a grant
            yield long_retry()
            return
        hub.add(self)
        rest = settings.JOIN_WINDOW
        if rest:
            self.writer = None
        self._end_at = loop.time() + _jitter(settings.MAX_AGE, 0.7, 1.0)
        self._written_at = loop.time()
        self.tick()
        drain.listen()
        self._ended = self._ended or drain.is_draining()
        try:
            await stream_opened.asend_robust(type(self), stream=self)
            opening = self.start.opening(self.snapshot, settings.HEARTBEAT if self.audible else None)
            yield retry() if self._farewell else opening
            while data := await self._due(hub):
                yield data
                if rest:
                    await asyncio.sleep(rest)
            if self._farewell:
                yield self._farewell
        finally:
            hub.discard(self)
            if warden:
                warden.forget(self)  # type: ignore[arg-type]
            if self._alarm:
                self._alarm.cancel()
            await stream_closed.asend_robust(type(self), stream=self)

    async def _due(self, hub: Hub) -> bytes:
        """Wait for what is to be written next; nothing at the end."""
        loop = asyncio.get_running_loop()
        while not self._ended:
            if not hub.reaches(self.cursor):
                data = await self._replay(hub)
                if not data or self._farewell:
                    continue  # the ring may have moved meanwhile
            else:
                data, self.cursor = hub.ring.after(self.cursor, self.channels)
            # What is told in passing has no id, so it does not stand in for a heartbeat.
            if (self.audible or not data) and loop.time() >= self._written_at + settings.HEARTBEAT:
                self._written_at = loop.time()
                data += self._heartbeat()
            elif data and not self.audible:
                self._written_at = loop.time()
            if self._ephemeral:
                data = b"".join([data, *self._ephemeral])
                self._ephemeral.clear()
            if data:
                return data
            # No await since the ring was asked: no ring of the bell can fall in between.
            self._waiter = loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return b""

    async def _replay(self, hub: Hub) -> bytes:
        """Fetch from the log what the ring no longer has."""
        try:
            if not hub.started:  # the one we were opened with has ended meanwhile
                await hub.catch_up()
                return b""
            if self.cursor > hub.ring.head:  # the log was restored while we were connected
                return self._reset(hub, "ahead")
            if allowance.replay.is_spent(client := self.grant.name if self.grant else ""):
                self._ended = True
                return long_retry()  # it has an id to come back with, so nothing is lost
            page = await hub.replay(self.cursor, self.channels, self._page)
            allowance.replay.spend(client, page.events)
        except LookupError:
            return self._reset(hub, "expired")
        except DatabaseFailure as error:
            # The browser has everything up to its last event ID and comes back with that.
            logger.warning("Replay from position %d was cut short, the client will ask again: %r", self.cursor, error)
            self._ended = True
            return retry()
        self._page = min(PAGE, 2 * page.events + 1)
        self.cursor = page.cursor
        return page.data

    def _heartbeat(self) -> bytes:
        """Move the browser's cursor, so that a quiet channel never expires."""
        return wire.heartbeat(self.cursor, settings.HEARTBEAT) if self.audible else wire.mark(self.cursor)

    def _reset(self, hub: Hub, reason: str) -> bytes:
        self.cursor = hub.ring.head
        return wire.reset(self.cursor, reason)

    def tick(self) -> None:
        """Look whether a heartbeat is due, or the end. Writing does not touch the alarm: it finds out when it goes off.
        (``clock.Timed``)"""
        now = asyncio.get_running_loop().time()
        if now >= self._end_at:
            self.end()
            return
        next_at = self._written_at + settings.HEARTBEAT
        if now >= next_at:
            self._look()
            next_at = now + settings.HEARTBEAT
        self._alarm = Clock.current().tell(self, min(next_at, self._end_at))


def start(cursor: Cursor, reach: log.Reach, before_last: int | None) -> Start:
    """Return where a client at ``cursor`` begins in a log of this ``reach``; not after ``before_last``."""
    reason = judge(cursor, reach.floor, reach.head) if cursor is not None else None
    if reason:
        return Start(reach.head, reason)
    position = cursor if isinstance(cursor, int) else reach.head
    if before_last is not None:
        position = max(reach.floor, min(position, before_last))
    return Start(position, fresh=cursor is None)
