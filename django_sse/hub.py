"""The read side: one reader of the log per event loop, and the streams that it wakes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol
from weakref import WeakKeyDictionary

from django_sse import log, wire
from django_sse.brokers import get_broker
from django_sse.census import Census
from django_sse.conf import settings
from django_sse.gate import Gate
from django_sse.reader import PAGE, Page, look, page
from django_sse.ring import Ring

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task
    from collections.abc import Iterable

    from django_sse.brokers import Broker

__all__ = ["Hub", "Subscriber"]

logger = logging.getLogger(__name__)

LINGER: Final = 30.0
"""Seconds that a hub outlives its last stream, so that one browser that reconnects finds the ring warm."""
REPLAY_THREADS: Final = 3
"""Database connections that replay may use in one process, however many clients come back at once."""


class Subscriber(Protocol):
    """A stream, as the hub sees it. Its methods are called in the hub's loop and return at once."""

    channels: frozenset[str]

    def wake(self) -> None:
        """The ring has something new for one of your channels."""

    def ephemeral(self, frame: bytes) -> None:
        """Here is an event that is not in the ring."""

    def end(self) -> None:
        """Nobody will wake you any more."""


class Hub:
    """Reads the log after its own position, encodes each event once, and wakes whom it concerns.

    It reads when the doorbell rings and when ``POLL_INTERVAL`` has passed, so a lost ring costs delay, never an event.
    ``Hub.current()`` makes it when the first stream of a loop needs it; it ends itself some time after the last.
    """

    _hubs: ClassVar[WeakKeyDictionary[AbstractEventLoop, Hub]] = WeakKeyDictionary()

    @classmethod
    def current(cls) -> Hub:
        """Return the running loop's hub. Use it before the next ``await``: an idle hub may end meanwhile.

        Raises ``ImproperlyConfigured`` where the broker cannot be made.
        """
        loop = asyncio.get_running_loop()
        hub = cls._hubs.get(loop)
        if hub is None:
            hub = cls._hubs[loop] = cls(get_broker())
        return hub

    @classmethod
    def drain_all(cls) -> None:
        """End every stream of this process, soon. May be called in a signal handler."""
        for loop, hub in tuple(cls._hubs.items()):
            with suppress(
                RuntimeError
            ):  # a loop that was closed over its hub; the server's handler must still be called
                loop.call_soon_threadsafe(hub._drain)

    def __init__(self, broker: Broker) -> None:
        self.ring = Ring(settings.RING_SIZE)
        self.census = Census(broker)
        self._broker = broker
        self._subscribers: dict[str, set[Subscriber]] = {}
        self._count = 0
        self._bell = asyncio.Event()
        self._asking: list[Future[log.Reach]] = []
        self._replays: dict[tuple[int, frozenset[str], int, int], Task[Page]] = {}
        self._live = Gate(1, keep=True)
        self._replay = Gate(REPLAY_THREADS)
        self.started = False
        """Whether the ring stands where the log does: nothing can be told before."""
        self.restores = 0
        """How often the log turned out to have been replaced by an older one."""
        self.warden: Subscriber | None = None
        """Who closes the streams whose right has ended, while there are any."""
        self._failing = False
        self._generation = 0
        self._task = asyncio.create_task(self._run(), name="django_sse hub")

    def add(self, subscriber: Subscriber) -> None:
        """Wake ``subscriber`` from now on."""
        for channel in subscriber.channels:
            self._subscribers.setdefault(channel, set()).add(subscriber)
        self._count += 1

    def discard(self, subscriber: Subscriber) -> None:
        """Never wake ``subscriber`` again."""
        for channel in subscriber.channels:
            listening = self._subscribers[channel]
            listening.discard(subscriber)
            if not listening:
                del self._subscribers[channel]
        self._count -= 1

    def connected(self) -> None:
        """Read the log soon, and ask the other hubs for their counts. (``brokers.Listener``)"""
        self.doorbell()
        self.census.ask()

    def announcement(self, announcement: dict[str, Any]) -> None:
        """Take in how many streams another hub has. (``brokers.Listener``)"""
        self.census.hear(announcement)

    def doorbell(self) -> None:
        """Read the log soon. (``brokers.Listener``)"""
        self._bell.set()

    def ephemeral(self, channel: str, type: str, data: str) -> None:
        """Tell the streams of ``channel`` about an event that is not stored. (``brokers.Listener``)"""
        listening = self._subscribers.get(channel)
        if listening:
            encoded = wire.encode(data, event=type)
            for subscriber in listening:
                subscriber.ephemeral(encoded)

    def reaches(self, cursor: int) -> bool:
        """Tell whether the ring holds everything after ``cursor``."""
        return self.started and self.ring.reaches(cursor)

    async def position(self) -> int:
        """Return a position that the log has reached. Raises what the database raises."""
        return self.ring.head if self.started else (await self.catch_up()).head

    async def catch_up(self) -> log.Reach:
        """Return the reach of the log as a read that begins after this call finds it; the ring then stands there.

        Any number of callers share one read. Raises what the database raises.
        """
        asked: Future[log.Reach] = asyncio.get_running_loop().create_future()
        self._asking.append(asked)
        self._bell.set()
        return await asked

    async def replay(self, cursor: int, channels: frozenset[str], limit: int) -> Page:
        """Return, from the log, the next page of what follows ``cursor`` in ``channels``.

        Clients that ask the same question at the same time share one query. Raises ``LookupError`` when the log no
        longer reaches back to ``cursor``, and what the database raises.
        """
        key = (cursor, channels, self.ring.head, min(limit, PAGE))
        task = self._replays.get(key)
        if task is None:
            task = self._replays[key] = asyncio.create_task(self._replay.run(page, *key))
            task.add_done_callback(lambda _: self._replays.pop(key))
        # Shielded: a client that leaves must not cancel the query of those who share it.
        return await asyncio.shield(task)

    async def cursor_before_last(self, channels: frozenset[str], count: int) -> int | None:
        """As ``log.cursor_before_last``, through the gate of replay."""
        return await self._replay.run(log.cursor_before_last, channels, count)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        listening = self._listen()
        used_at = loop.time()
        heal_at = used_at
        try:
            while self._count or self._asking or loop.time() - used_at < LINGER:
                if self._count:
                    used_at = loop.time()
                if listening.done():
                    listening = self._listen()
                self._bell.clear()
                heal = loop.time() >= heal_at  # however often the bell rings: each stream that opens rings it
                if heal:
                    heal_at = loop.time() + settings.POLL_INTERVAL
                if await self._read(heal=heal):
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(heal_at):
                        await self._bell.wait()
        finally:
            if self._hubs.get(loop) is self:
                del self._hubs[loop]
            # At the end of asyncio.run all tasks have been cancelled; twice would cut its tidying short.
            if not listening.cancelling():
                listening.cancel()
            self._live.close()
            self._replay.close()
            self.census.end()
            self._abandon()

    def _abandon(self) -> None:
        """Leave nobody waiting for a hub that has stopped: clients come back, to a new one."""
        self._drain()
        for asked in self._asking:
            if not asked.done():
                asked.set_exception(RuntimeError("The hub was stopped before it could read the log."))

    def _drain(self) -> None:
        for subscriber in {one for listening in self._subscribers.values() for one in listening}:
            subscriber.end()

    def _listen(self) -> Task[None]:
        listening = asyncio.create_task(self._broker.listen(self), name="django_sse listener")
        listening.add_done_callback(_say_why)
        return listening

    async def _read(self, *, heal: bool) -> bool:
        """Take in one page of the log; tell whether there is more. Never raises: a reader that dies silences all."""
        asking, self._asking = self._asking, []
        try:
            reach, frames = await self._live.run(look, self.ring.head if self.started else None, heal)
        except Exception as error:
            if not self._failing:
                logger.warning("The log cannot be read; streams stay open, the next try follows: %r", error)
            self._failing = True
            for asked in asking:
                if not asked.done():
                    asked.set_exception(error)
            return False
        self._failing = False
        replaced = reach.generation != self._generation or not reach.floor <= self.ring.head <= reach.head
        if not self.started or replaced:
            # The first look; or the log was trimmed past us, purged, or restored from an older backup: every stream
            # now finds its cursor out of the ring's reach, asks the log, and tells its client what is to be told.
            self.started = True
            self.restores += reach.head < self.ring.head
            self._generation = reach.generation
            self.ring.clear(reach.head)
            self._wake(tuple(self._subscribers))
        elif frames:
            more = len(frames) == PAGE
            self.ring.extend(frames, frames[-1].position if more else reach.head)
            self._wake({frame.channel for frame in frames})
            if more:
                self._asking += asking
                return True
        else:
            self.ring.extend((), reach.head)  # a log with a hole: what was there has been purged
        for asked in asking:
            if not asked.done():
                asked.set_result(reach)
        return False

    def _wake(self, channels: Iterable[str]) -> None:
        for channel in channels:
            for subscriber in self._subscribers.get(channel, ()):
                subscriber.wake()


def _say_why(listening: Task[None]) -> None:
    if not listening.cancelled() and (error := listening.exception()):
        logger.error("The broker's listener ended and is started again; until then the poll serves: %r", error)
