"""A producer of one's own as the body of a response: the first item at once, heartbeats, an end that is said.

The producer runs in one task. It is at most ``AHEAD`` items before what was written, it is cancelled when the client
leaves, and what it raises goes to the log, never to the client.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, TypeVar

from django.db import connections

from django_sse.conf import settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

    from django_sse.encoders import EventEncoder

__all__ = ["Source", "generator"]

logger = logging.getLogger(__name__)

AHEAD: Final = 8
"""Items that a producer may be ahead of what was written: enough to join small ones into one write."""
PATIENCE: Final = 5.0
"""Seconds that a cancelled producer may take to tidy up before nobody waits for it."""

_END: Final[Any] = object()

T = TypeVar("T")


class Source:
    """The frames of ``items``, an iterable, sync or async, as an async iterator of bytes. Iterated once.

    ``end()``, from the same loop, cancels the producer and finishes the body.
    """

    def __init__(self, items: AsyncIterable[object] | Iterable[object], encoder: EventEncoder) -> None:
        self.writer: Callable[[bytes], bool] | None = None  # of no use here: each piece comes from a task anyway
        self._items = items
        self._encoder = encoder
        self._ahead: asyncio.Queue[bytes] | None = None
        self._task: asyncio.Task[None] | None = None

    def end(self) -> None:
        """Cancel the producer: the body ends after what is being written."""
        if self._task:
            self._task.cancel()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        # In the loop that reads it: a response may be made in another thread.
        ahead: asyncio.Queue[bytes] = asyncio.Queue(AHEAD)
        task = self._task = asyncio.create_task(self._produce(ahead))

        def wake(_: object) -> None:
            if not ahead.full():
                ahead.put_nowait(b"")

        task.add_done_callback(wake)
        try:
            if opening := self._encoder.opening():
                yield opening
            while not (task.done() and ahead.empty()):
                try:
                    async with asyncio.timeout(settings.HEARTBEAT):
                        data = await ahead.get()
                except TimeoutError:
                    data = self._encoder.heartbeat()
                if not ahead.empty():
                    data = b"".join([data, *(ahead.get_nowait() for _ in range(ahead.qsize()))])
                if data:
                    yield data
            if not task.cancelled():
                task.result()
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=PATIENCE)

    async def _produce(self, ahead: asyncio.Queue[bytes]) -> None:
        try:
            async with aclosing(generator(self._items)) as items:
                async for item in items:
                    await ahead.put(self._encoder.item(item))
            end: bytes | None = self._encoder.done()
        except (Exception, asyncio.CancelledError) as error:
            task = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                raise  # by us; else the source has waited for a task of somebody's, and that was cancelled
            end = _failed(self._encoder)
            if end is None:
                raise
        await ahead.put(end or b"")

    def frames(self) -> Iterator[bytes]:
        """Return the same for a server that knows no event loop. A sync producer runs in the caller's thread and has
        no heartbeat; an async one gets an event loop of its own, which runs while the server waits for a piece."""
        return self._run() if isinstance(self._items, AsyncIterable) else self._plain(self._items)

    def _plain(self, items: Iterable[object]) -> Iterator[bytes]:
        if opening := self._encoder.opening():
            yield opening
        try:
            items = iter(items)
            for item in items:
                if data := self._encoder.item(item):
                    yield data
            end: bytes | None = self._encoder.done()
        except Exception:
            end = _failed(self._encoder)
            if end is None:
                raise
        finally:
            getattr(items, "close", lambda: None)()
        if end:
            yield end

    def _run(self) -> Iterator[bytes]:
        with asyncio.Runner() as runner:
            pieces = aiter(self)

            async def step() -> bytes | None:
                return await anext(pieces, None)

            try:
                while (data := runner.run(step())) is not None:
                    yield data
            finally:
                runner.run(_close(pieces))


def _failed(encoder: EventEncoder) -> bytes | None:
    said = encoder.failed()
    if said is not None:  # else it is raised, and logged by whoever cuts the connection
        logger.exception("The source of an event stream failed; its client was told so, and nothing more")
    return said


async def _close(pieces: AsyncGenerator[bytes, None]) -> None:
    await pieces.aclose()


async def generator(items: AsyncIterable[T] | Iterable[T]) -> AsyncGenerator[T, None]:
    """Yield ``items``, sync or async. Closed early, it closes them.

    Sync ones run in a thread of their own, and end with the item that they are at.
    """
    iterator = aiter(items) if isinstance(items, AsyncIterable) else _in_a_thread(items)
    try:
        async for item in iterator:
            yield item
    finally:
        if close := getattr(iterator, "aclose", None):
            await close()


async def _in_a_thread(items: Iterable[T]) -> AsyncGenerator[T, None]:
    loop = asyncio.get_running_loop()
    thread = ThreadPoolExecutor(1, thread_name_prefix="django_sse source")
    iterator: object = items
    try:
        # In the thread too: to begin may be a query.
        iterator = begun = await loop.run_in_executor(thread, iter, items)
        while (item := await loop.run_in_executor(thread, next, begun, _END)) is not _END:
            yield item
    finally:
        thread.submit(_tidy, iterator)
        thread.shutdown(wait=False)


def _tidy(items: object) -> None:
    try:
        getattr(items, "close", lambda: None)()
    except Exception:
        logger.exception("The source of an event stream failed as it was closed")
    finally:
        connections.close_all()
