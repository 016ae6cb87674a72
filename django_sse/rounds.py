"""The rounds of a warden: which of its streams are asked when whether they may go on.

Session and user of each are looked at on time. What decides about its channels may be costly, so those questions wait
in a queue for a budget; in both, one that hangs holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from contextlib import suppress
from heapq import heappop, heappush
from itertools import count, islice
from typing import TYPE_CHECKING, Final, Protocol

from django_sse.conf import settings
from django_sse.examiner import UNKNOWN, Examiner, Findings

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Iterable

    from django_sse.grant import Grant

__all__ = ["Rounds"]

logger = logging.getLogger(__name__)

BATCH: Final = 25
"""Streams that are asked again at once: they share the queries for their sessions and users."""
QUERIES: Final = 50
"""Queries a second that what decides may cost in one process, beside those for sessions and users. Where it needs more,
the round of its questions takes longer than ``RECHECK``."""
TICK: Final = 0.5
"""Seconds for which streams that are nearly due wait for each other, to be asked together."""
AGAIN: Final = 2.0
"""Seconds until streams are asked that could not be asked."""


class Asked(Protocol):
    """A stream, as it is asked."""

    grant: Grant

    def close(self, reason: str, *, final: bool = True) -> None:
        """End with ``sse.close``."""


class Rounds:
    """Asks, from ``start`` to ``stop``, and closes who is denied. Everything happens in one event loop."""

    def __init__(self) -> None:
        self._streams: dict[Asked, float] = {}
        """With the time at which session and user of each are looked at again."""
        self._due: list[tuple[float, int, Asked]] = []
        """A heap; an entry whose time is not the stream's any more is void."""
        self._waiting: dict[Asked, None] = {}
        """Those for whom what decides is to be asked, in turn."""
        self._urgent: dict[Asked, None] = {}
        self._order = count()
        self._planned = asyncio.Event()
        self._wanted = asyncio.Event()
        self._tasks: list[Task[None]] = []

    def start(self) -> None:
        """Begin to ask."""
        for work, name in ((self._look, "look"), (self._ask, "recheck")):
            self._tasks.append(asyncio.create_task(work(), name=f"django_sse {name}"))

    def stop(self) -> None:
        """Ask nobody any more."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    def add(self, stream: Asked) -> None:
        """Ask ``stream`` every ``RECHECK`` seconds."""
        self._plan(stream)

    def discard(self, stream: Asked) -> None:
        """Ask ``stream`` no more: it has ended."""
        for streams in (self._streams, self._waiting, self._urgent):
            streams.pop(stream, None)

    def ask_soon(self, streams: Iterable[Asked]) -> None:
        """Ask ``streams`` at once, whatever it costs."""
        self._urgent.update(dict.fromkeys(streams))
        if self._urgent:
            self._wanted.set()

    def _plan(self, stream: Asked, seconds: float | None = None) -> None:
        """Ask ``stream`` in so many seconds; by default when ``RECHECK`` says, each at a moment of its own."""
        if seconds is None:
            seconds = math.inf if settings.RECHECK is None else settings.RECHECK * random.uniform(0.7, 1.0)
        due = self._streams[stream] = asyncio.get_running_loop().time() + seconds
        if seconds < math.inf:
            heappush(self._due, (due, next(self._order), stream))
            if self._due[0][2] is stream:
                self._planned.set()

    async def _look(self) -> None:
        """Look on time whether session and user are still there, and have the rest asked."""
        loop = asyncio.get_running_loop()
        examiner = Examiner(deciding=False)
        while True:
            self._planned.clear()
            await _until(self._due[0][0] if self._due else math.inf, self._planned)
            if self._due and self._due[0][0] <= loop.time():
                await self._examine(examiner, self._take_due(loop.time() + TICK))

    async def _ask(self) -> None:
        """Ask who waits, at most ``QUERIES`` a second; who is urgent, at once."""
        loop = asyncio.get_running_loop()
        examiner = Examiner(deciding=True)
        free_at = loop.time()
        while True:
            self._wanted.clear()
            if not self._urgent:
                await _until(free_at if self._waiting else math.inf, self._wanted)
            if not self._urgent and loop.time() < free_at:
                continue
            batch = list(islice(self._urgent or self._waiting, BATCH))
            for stream in batch:
                self._urgent.pop(stream, None)
                self._waiting.pop(stream, None)
            free_at = loop.time() + await self._examine(examiner, batch) / QUERIES

    def _take_due(self, until: float) -> list[Asked]:
        batch: list[Asked] = []
        while self._due and self._due[0][0] <= until and len(batch) < BATCH:
            due, _, stream = heappop(self._due)
            if self._streams.get(stream) == due:
                batch.append(stream)
        return batch

    async def _examine(self, examiner: Examiner, batch: list[Asked]) -> int:
        """Close those of ``batch`` that may not go on, plan the others; return how many queries were made to decide."""
        if not batch:
            return 0
        try:
            findings = await examiner.examine([stream.grant for stream in batch])
        except Exception as error:
            # The database is away, mostly. Streams stay open, as they do for the reader, until somebody can answer.
            logger.warning("%d streams could not be asked again, the next try follows: %r", len(batch), error)
            findings = Findings([UNKNOWN] * len(batch), 0)
        for stream, reason in zip(batch, findings.reasons, strict=True):
            if reason:
                stream.close(reason)
            elif stream not in self._streams:
                continue
            elif reason == UNKNOWN:
                self._plan(stream, AGAIN)
            elif not examiner.deciding:
                self._plan(stream)
                if stream.grant.ask:
                    self._waiting.setdefault(stream)
                    self._wanted.set()
        return findings.queries


async def _until(when: float, event: asyncio.Event) -> None:
    """Wait for ``event``, but not longer than until ``when``."""
    with suppress(TimeoutError):
        async with asyncio.timeout_at(None if when == math.inf else when):
            await event.wait()
