"""Closing the streams whose right has ended: the ones that a notice names, and the ones that are asked and denied.

The warden of a hub walks the log as a stream does, but on the control channel: notices reach it by the doorbell or by
the poll, in the order of commit, and one that is late or was missed is read from the log.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import Counter, deque
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from django_sse.conf import settings
from django_sse.control import CONTROL, Notice
from django_sse.reader import PAGE
from django_sse.recheck import examine

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Iterable

    from django_sse.grant import Grant
    from django_sse.hub import Hub

__all__ = ["Warden"]

logger = logging.getLogger(__name__)

BATCH: Final = 25
"""Streams that are asked again at once: they share the queries for their sessions and users."""
QUERIES: Final = 50
"""Queries a second that routine asking may cost in one process. Where the authoriser makes more, a round takes longer
than ``RECHECK``."""
TICK: Final = 0.5
"""Seconds for which streams that are nearly due wait for each other, to be asked together."""
AGAIN: Final = 2.0
"""Seconds until streams are asked that could not be asked."""
REMEMBERED: Final = 256
"""Notices that are kept for streams which were being opened when they came."""


class Watched(Protocol):
    """A stream, as its warden sees it."""

    channels: frozenset[str]
    grant: Grant

    def close(self, reason: str, *, final: bool = True) -> None:
        """End with ``sse.close``."""


class _Remembered(NamedTuple):
    position: int
    notice: Notice


class Warden:
    """Watches the streams of one hub. Everything happens in the hub's event loop."""

    channels = frozenset({CONTROL})

    @classmethod
    def of(cls, hub: Hub, position: int) -> Warden:
        """Return the warden of ``hub``; where there is none, a new one that knows of notices after ``position``."""
        if not isinstance(hub.warden, cls):
            hub.warden = cls(hub, position)
        return hub.warden

    @classmethod
    def is_full(cls, hub: Hub, user: str | None, address: str) -> bool:
        """Tell whether one more stream of ``user``, or from ``address``, would be refused."""
        return isinstance(hub.warden, cls) and hub.warden._is_full(user, address)

    def __init__(self, hub: Hub, position: int) -> None:
        self._hub = hub
        self._cursor = self._complete_from = position
        self._restores = hub.restores
        self._notices: deque[_Remembered] = deque(maxlen=REMEMBERED)
        self._streams: dict[Watched, float] = {}
        """With the time at which each is to be asked again."""
        self._users: dict[str, set[Watched]] = {}
        self._sessions: dict[str, set[Watched]] = {}
        self._addresses: Counter[str] = Counter()
        self._due: list[tuple[float, int, Watched]] = []
        """A heap; an entry whose time is not the stream's any more is void."""
        self._urgent: dict[Watched, None] = {}
        self._order = count()
        self._news = asyncio.Event()
        self._asked = asyncio.Event()
        self._tasks: list[Task[None]] = []

    def watch(self, stream: Watched) -> bool:
        """Close ``stream`` once it may not go on, until ``forget``. False: its user or address has too many already.

        A stream whose right ended while it was being opened is closed at once.
        """
        grant = stream.grant
        if self._is_full(grant.user, grant.address):
            return False
        if not self._streams:
            self._start()
        self._plan(stream)
        if grant.user:
            self._users.setdefault(grant.user, set()).add(stream)
        if grant.session:
            self._sessions.setdefault(grant.session, set()).add(stream)
        self._addresses[grant.address] += 1
        if grant.position < self._complete_from:
            self._ask_soon([stream])
        for position, notice in self._notices:
            # A session that was logged out of is over, also for whoever read it just before it was deleted.
            if position > grant.position or notice.session:
                self._obey(notice, [stream])
        return True

    def forget(self, stream: Watched) -> None:
        """Stop watching ``stream``, which has ended."""
        if stream not in self._streams:
            return
        del self._streams[stream]
        self._urgent.pop(stream, None)
        for index, name in ((self._users, stream.grant.user), (self._sessions, stream.grant.session)):
            if name and name in index:
                index[name].discard(stream)
                if not index[name]:
                    del index[name]
        self._addresses[stream.grant.address] -= 1
        if not self._addresses[stream.grant.address]:
            del self._addresses[stream.grant.address]
        if not self._streams:
            self._stop()

    def wake(self) -> None:
        """There is a notice. (``hub.Subscriber``)"""
        self._news.set()

    def ephemeral(self, frame: bytes) -> None:
        """Never called: nothing is published to the control channel. (``hub.Subscriber``)"""

    def end(self) -> None:
        """The hub ends all streams; the last of them stops this. (``hub.Subscriber``)"""

    def _start(self) -> None:
        self._hub.add(self)
        for work, name in ((self._follow, "notices"), (self._ask, "recheck")):
            self._tasks.append(asyncio.create_task(work(), name=f"django_sse {name}"))

    def _stop(self) -> None:
        self._hub.discard(self)
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()
        self._hub.warden = None

    def _is_full(self, user: str | None, address: str) -> bool:
        per_user, per_address = settings.MAX_STREAMS_PER_USER, settings.MAX_STREAMS_PER_ADDRESS
        if per_user is not None and user and len(self._users.get(user, ())) >= per_user:
            return True
        return per_address is not None and bool(address) and self._addresses[address] >= per_address

    async def _follow(self) -> None:
        while True:
            self._news.clear()
            try:
                await self._read()
            except Exception as error:  # the database is away, mostly; a warden that dies closes nothing any more
                logger.warning("Notices cannot be read, the next try follows: %r", error)
            with suppress(TimeoutError):  # now and then without news: the cursor must not fall out of the ring
                async with asyncio.timeout(settings.POLL_INTERVAL):
                    await self._news.wait()

    async def _read(self) -> None:
        hub = self._hub
        while True:
            if not hub.started:
                await hub.catch_up()
            if self._restores != hub.restores or self._cursor > hub.ring.head:
                self._restores = hub.restores  # from a backup: nobody knows what was lost
                return self._lost()
            if hub.reaches(self._cursor):
                lines, cursor = hub.ring.after(self._cursor, self.channels)
                at_end = cursor == hub.ring.head
            else:
                try:
                    lines, cursor, _ = await hub.replay(self._cursor, self.channels, PAGE)
                except LookupError:
                    return self._lost()
                at_end = cursor >= hub.ring.head
            self._cursor = cursor
            for line in lines.splitlines():
                self._take(line)
            if at_end:
                return None

    def _lost(self) -> None:
        """Go on from the end of the log, and ask for every stream: a notice may have been among what is gone."""
        self._cursor = self._complete_from = self._hub.ring.head
        self._ask_soon(self._streams)

    def _take(self, line: bytes) -> None:
        number, _, text = line.partition(b" ")
        position = int(number)
        try:
            notice = Notice.decode(text.decode())
        except (ValueError, TypeError):
            logger.error("Event %d of the control channel is no notice, so every stream is asked", position)
            notice = Notice("unreadable", ask=True)
        if len(self._notices) == REMEMBERED:
            self._complete_from = self._notices[0].position
        self._notices.append(_Remembered(position, notice))
        streams: Iterable[Watched] = self._streams
        if notice.session:
            streams = self._sessions.get(notice.session, ())
        elif notice.users is not None:
            streams = [one for user in notice.users for one in self._users.get(user, ())]
        self._obey(notice, streams)

    def _obey(self, notice: Notice, streams: Iterable[Watched]) -> None:
        concerned = [one for one in streams if notice.concerns(one.grant.user, one.grant.session, one.channels)]
        if notice.ask:
            self._ask_soon(concerned)
            return
        for stream in concerned:
            stream.close(notice.reason, final=notice.final)

    def _ask_soon(self, streams: Iterable[Watched]) -> None:
        self._urgent.update(dict.fromkeys(streams))
        if self._urgent:
            self._asked.set()

    def _plan(self, stream: Watched, seconds: float | None = None) -> None:
        """Ask ``stream`` in so many seconds; by default when ``RECHECK`` says, each at a moment of its own."""
        if seconds is None:
            seconds = math.inf if settings.RECHECK is None else settings.RECHECK * random.uniform(0.7, 1.0)
        due = self._streams[stream] = asyncio.get_running_loop().time() + seconds
        if seconds < math.inf:
            heappush(self._due, (due, next(self._order), stream))
            if self._due[0][2] is stream:
                self._asked.set()

    async def _ask(self) -> None:
        """Ask who is due, at most ``QUERIES`` a second; who is urgent, at once."""
        loop = asyncio.get_running_loop()
        free_at = loop.time()
        while True:
            self._asked.clear()
            if self._urgent:
                batch = list(self._urgent)[:BATCH]
            else:
                wait_until = max(self._due[0][0] if self._due else loop.time() + 3600, free_at)
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(wait_until):
                        await self._asked.wait()
                if self._urgent or loop.time() < wait_until:
                    continue
                batch = self._take_due(loop.time() + TICK)
            for stream in batch:
                self._urgent.pop(stream, None)
            queries = await self._examine(batch) if batch else 0
            free_at = loop.time() + queries / QUERIES

    def _take_due(self, until: float) -> list[Watched]:
        batch: list[Watched] = []
        while self._due and self._due[0][0] <= until and len(batch) < BATCH:
            due, _, stream = heappop(self._due)
            if self._streams.get(stream) == due:
                batch.append(stream)
        return batch

    async def _examine(self, batch: list[Watched]) -> int:
        """Close those of ``batch`` that may not go on; return how many queries it took."""
        failed = False
        reasons: list[str | None] = [None] * len(batch)
        queries = len(batch)
        try:
            reasons, queries = await examine([stream.grant for stream in batch])
        except Exception as error:
            # The database is away, mostly. Streams stay open, as they do for the reader, until somebody can answer.
            logger.warning("%d streams could not be asked again, the next try follows: %r", len(batch), error)
            failed = True
        for stream, reason in zip(batch, reasons, strict=True):
            if reason:
                stream.close(reason)
            elif stream in self._streams:
                self._plan(stream, AGAIN if failed else None)
        return queries
