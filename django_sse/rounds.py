"""The rounds of a warden: which of its streams are asked when whether they may go on.

Session and user of each are looked at on time. What decides about its channels may be costly, so those questions wait
in a queue for a budget; in both, one that hangs holds up no other. While nobody waits, both are asked together.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from contextlib import suppress
from heapq import heappop, heappush
from itertools import islice
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


class _Turn:
    """When a stream is to be looked at again. Void, and holding nobody, once it has ended or has another turn."""

    __slots__ = ("due", "stream")

    def __init__(self, due: float, stream: Asked) -> None:
        self.due = due
        self.stream: Asked | None = stream

    def __lt__(self, other: _Turn) -> bool:
        return self.due < other.due


class Rounds:
    """Asks, from ``start`` to ``stop``, and closes who is denied. Everything happens in one event loop."""

    def __init__(self) -> None:
        self._streams: dict[Asked, _Turn] = {}
        """With the turn in which session and user of each are looked at again."""
        self._due: list[_Turn] = []
        """A heap of turns; those that are void stay until their time."""
        self._waiting: dict[Asked, None] = {}
        """Those for whom what decides is to be asked, in turn."""
        self._urgent: dict[Asked, None] = {}
        self._free_at = -math.inf
        """When the next question is paid for; ``inf`` while one is asked."""
        self._looker = Examiner(deciding=False)
        self._asker = Examiner(deciding=True)
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
        if turn := self._streams.pop(stream, None):
            turn.stream = None
        self._waiting.pop(stream, None)
        self._urgent.pop(stream, None)

    def ask_soon(self, streams: Iterable[Asked]) -> None:
        """Ask ``streams`` at once, whatever it costs."""
        self._urgent.update(dict.fromkeys(streams))
        if self._urgent:
            self._wanted.set()

    def _plan(self, stream: Asked, seconds: float | None = None) -> None:
        """Ask ``stream`` in so many seconds; by default when ``RECHECK`` says, each at a moment of its own."""
        if seconds is None:
            seconds = math.inf if settings.RECHECK is None else settings.RECHECK * random.uniform(0.7, 1.0)
        if earlier := self._streams.get(stream):
            earlier.stream = None
        turn = self._streams[stream] = _Turn(asyncio.get_running_loop().time() + seconds, stream)
        if seconds < math.inf:
            heappush(self._due, turn)
            if self._due[0] is turn:
                self._planned.set()

    async def _look(self) -> None:
        """Look on time whether session and user are still there, and have the rest asked."""
        loop = asyncio.get_running_loop()
        while True:
            self._planned.clear()
            await _until(self._due[0].due if self._due else math.inf, self._planned)
            if not self._due or self._due[0].due > loop.time():
                continue
            batch = self._take_due(loop.time() + TICK)
            is_busy = self._free_at > loop.time() or self._waiting or self._urgent or self._asker.hangs
            if is_busy:
                await self._examine(self._looker, batch)
                continue
            for stream in batch:  # they are asked at once, for session and user first
                self._plan(stream)
            self._wait(batch)

    async def _ask(self) -> None:
        """Ask who waits, at most ``QUERIES`` a second; who is urgent, at once."""
        loop = asyncio.get_running_loop()
        while True:
            self._wanted.clear()
            if not self._urgent:
                await _until(self._free_at if self._waiting else math.inf, self._wanted)
            if not self._urgent and loop.time() < self._free_at:
                continue
            batch = list(islice(self._urgent or self._waiting, BATCH))
            for stream in batch:
                self._urgent.pop(stream, None)
                self._waiting.pop(stream, None)
            self._free_at = math.inf
            queries = await self._examine(self._asker, batch)
            self._free_at = loop.time() + queries / QUERIES

    def _wait(self, streams: Iterable[Asked]) -> None:
        for stream in streams:
            self._waiting.setdefault(stream)
            self._wanted.set()

    def _take_due(self, until: float) -> list[Asked]:
        batch: list[Asked] = []
        while self._due and self._due[0].due <= until and len(batch) < BATCH:
            if (stream := heappop(self._due).stream) is not None:
                batch.append(stream)
        return batch

    async def _examine(self, examiner: Examiner, batch: list[Asked]) -> int:
        """Close those of ``batch`` that may not go on, plan the others; return how many queries were made to decide."""
        if not batch:
            return 0
        streams = {stream.grant: stream for stream in batch}
        try:
            findings = await examiner.examine(list(streams), lambda grant, reason: streams[grant].close(reason))
        except Exception as error:
            # The database is away, mostly. Streams stay open, as they do for the reader, until somebody can answer.
            logger.warning("%d streams could not be asked again, the next try follows: %r", len(batch), error)
            findings = Findings([UNKNOWN] * len(batch), 0)
        for stream, reason in zip(streams.values(), findings.reasons, strict=True):
            if reason:
                stream.close(reason)
            elif stream not in self._streams:
                continue
            elif reason == UNKNOWN:
                self._plan(stream, AGAIN)
            elif not examiner.deciding:
                self._plan(stream)
                self._wait([stream] if stream.grant.ask else [])
        return findings.queries


async def _until(when: float, event: asyncio.Event) -> None:
    """Wait for ``event``, but not longer than until ``when``."""
    with suppress(TimeoutError):
        async with asyncio.timeout_at(None if when == math.inf else when):
            await event.wait()
