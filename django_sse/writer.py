"""Writes what all producers of an event loop have to say, as few transactions as the database needs.

While one transaction runs, what comes next is collected: a hundred generations cost the database what its own speed
allows, not a hundred times that of one. One thread and one connection, given back when the last producer ends.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol
from weakref import WeakKeyDictionary

from django.db import Error as DatabaseFailure

from django_sse.compaction import stopped
from django_sse.gate import Gate
from django_sse.publish import send_events

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task
    from collections.abc import Callable, Sequence

    from django_sse.models import Event

__all__ = ["LOOK", "Writer"]

logger = logging.getLogger(__name__)

LOOK: Final = 0.25
"""Seconds between two looks for somebody who wants a producer to stop."""

Item = tuple[str, str, Any]


class Producer(Protocol):
    """Who writes."""

    channel: str

    def stop(self) -> None:
        """Somebody asked you to end."""


class Writer:
    """The way to the log of one event loop's producers. ``Writer.current()`` makes it when the first one needs it."""

    _writers: ClassVar[WeakKeyDictionary[AbstractEventLoop, Writer]] = WeakKeyDictionary()

    @classmethod
    def current(cls) -> Writer:
        """Return the running loop's writer. Use it before the next ``await``."""
        loop = asyncio.get_running_loop()
        writer = cls._writers.get(loop)
        if writer is None:
            writer = cls._writers[loop] = cls()
        return writer

    def __init__(self) -> None:
        self._producers: set[Producer] = set()
        self._gate = Gate(1, keep=True)
        self._waiting: list[tuple[Sequence[Item], Future[list[Event]]]] = []
        self._writing: Task[None] | None = None
        self._looking = asyncio.create_task(self._look())

    def add(self, producer: Producer) -> None:
        """Tell ``producer`` from now on when somebody wants it to stop."""
        self._producers.add(producer)

    def discard(self, producer: Producer) -> None:
        """Forget ``producer``; with the last one the writer ends."""
        self._producers.discard(producer)
        if not self._producers:
            self._writers.pop(asyncio.get_running_loop(), None)
            self._looking.cancel()
            self._gate.close()

    async def write(self, items: Sequence[Item]) -> list[Event]:
        """Publish ``items``, together with what others have to say, and return their events.

        Raises what the database raises.
        """
        asked: Future[list[Event]] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, asked))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())
        return await asked

    async def run(self, work: Callable[[], Any]) -> Any:
        """Return what ``work`` returns, in the thread of the writer."""
        return await self._gate.run(work)

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            every = [item for items, _ in batch for item in items]
            try:
                events = iter(await self._gate.run(send_events, every))
            except Exception as error:
                for _, asked in batch:
                    if not asked.done():
                        asked.set_exception(error)
                continue
            for items, asked in batch:
                mine = [event for _, event in zip(items, events, strict=False) if event]
                if not asked.done():
                    asked.set_result(mine)

    async def _look(self) -> None:
        while True:
            try:
                channels = await self._gate.run(stopped, [producer.channel for producer in self._producers])
            except DatabaseFailure:
                channels = set()  # who writes says so
            except Exception:
                channels = set()
                logger.exception("Nobody can tell at the moment which generated texts are to stop")
            for producer in tuple(self._producers):
                if producer.channel in channels:
                    producer.stop()
            await asyncio.sleep(LOOK)
