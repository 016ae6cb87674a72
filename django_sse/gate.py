"""The bounded way from an event loop to the log: few threads, a database connection each, none while idle."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from django.db import connections

from django_sse.conf import settings

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Gate"]

P = ParamSpec("P")
T = TypeVar("T")


class Gate:
    """Runs functions of the log in at most ``width`` threads of its own.

    A thread gives its database connection back when no work waits for it, unless the gate is to ``keep`` it.
    """

    def __init__(self, width: int, *, keep: bool = False) -> None:
        self._width = width
        self._keep = keep
        self._threads = ThreadPoolExecutor(width, thread_name_prefix="django_sse")
        self._pending = 0
        self._lock = Lock()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``work(*args)``; raise what it raises, after its connection was closed to be made anew."""
        with self._lock:
            self._pending += 1
        loop = asyncio.get_running_loop()
        # Shielded: who is cancelled while it waits for a thread would stay counted for ever.
        return await asyncio.shield(loop.run_in_executor(self._threads, self._work, lambda: work(*args, **kwargs)))

    def close(self) -> None:
        """End the threads and their connections once they have done what they are doing."""
        for _ in range(self._width if self._keep else 0):
            self._threads.submit(connections.close_all)
        self._threads.shutdown(wait=False)

    def _work(self, work: Callable[[], T]) -> T:
        healthy = False
        try:
            answer = work()
            healthy = True
            return answer
        finally:
            with self._lock:
                self._pending -= 1
                busy = self._pending >= self._width
            if not healthy or not (self._keep or busy):
                connections[settings.DATABASE].close()
