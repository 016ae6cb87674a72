"""Text that appears while it is being generated, and survives a reload, a second tab and a restart of the web server.

The producer writes to the log, from whichever process it runs in; any number of readers follow, or come later::

    async with token_stream(token_channel(user, "42")) as stream:
        async for token in model(prompt):
            await stream.send(token)

A channel holds one text at a time, and each text had better have a channel of its own: a page that has seen the end of
one has closed. Its events are ``token``, ``{"at": 12, "text": "..."}``, and at the end ``done``, which also has a
``reason``: ``end``, ``stopped`` or ``failed``. See ``compaction`` for what a page does with ``at``.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Literal

from asgiref.sync import sync_to_async
from django.db import Error as DatabaseFailure

from django_sse import log
from django_sse.channels import check_channel
from django_sse.compaction import DONE, PIECE, STOP, begins_after, compact, fits, has_ended, piece, width
from django_sse.publish import send_event
from django_sse.source import generator
from django_sse.surrogates import REPLACEMENT, join, split
from django_sse.writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable, Iterator
    from types import TracebackType

    from django_sse.models import Event
    from django_sse.writer import Item

    Reason = Literal["end", "stopped", "failed"]

__all__ = [
    "TokenStream",
    "astop_tokens",
    "atokens_since",
    "stop_tokens",
    "stream_tokens",
    "token_stream",
    "tokens_since",
]

logger = logging.getLogger(__name__)

INTERVAL: Final = 0.05
"""Seconds between two events of one text: a reader sees no difference, the table does."""
WAITING: Final = 16 * 1024
"""Characters that a producer may be ahead of the log before ``send`` waits."""
PATIENCE: Final = 30.0
"""Seconds that the database may fail before the producer is told. Its text is kept until then."""
PAUSE: Final = 0.5
"""Seconds between two attempts."""


def token_stream(channel: str) -> TokenStream:
    """Return an async context manager that streams one generated text to ``channel``. Raises ``InvalidChannel``.

    The end of the block is the end of the text, stored as ``done``. When somebody calls ``stop_tokens(channel)``, in
    any process, the block is left at its next ``await``, as ``asyncio.timeout`` does it, without an exception:
    ``stream.reason`` is then ``"stopped"``. An exception inside the block ends the text as ``failed`` and goes on.
    """
    return TokenStream(check_channel(channel))


async def stream_tokens(channel: str, tokens: AsyncIterable[str] | Iterable[str]) -> TokenStream:
    """Stream all of ``tokens`` to ``channel`` and return the ``TokenStream``, with its ``text`` and ``reason``.

    ``tokens``: sync or async; a sync one runs in a thread of its own. From sync code, such as a task queue's worker:
    ``async_to_sync(stream_tokens)(channel, tokens)``. Raises what ``tokens`` raises, once ``done`` is stored.
    """
    async with token_stream(channel) as stream, aclosing(generator(tokens)) as items:
        async for token in items:
            await stream.send(token)
    return stream


def stop_tokens(channel: str) -> None:
    """Ask the producer of ``channel``, wherever it runs, to end; it does within about a quarter of a second.

    Asked before it has begun, it ends as it begins; asked after the end, nothing happens. Twice does no harm.
    """
    if not has_ended(check_channel(channel)):
        send_event(channel, STOP, None, key=STOP)


async def astop_tokens(channel: str) -> None:
    """``stop_tokens`` for async code."""
    await sync_to_async(stop_tokens)(channel)


def tokens_since(channel: str) -> int:
    """Return the position after which the newest text of ``channel`` begins: what a page gives as ``since``.

    Where there is none, or none that can still be read, that is the head: no text that comes is missed.
    """
    reach = log.reach()  # first: what is written in between is then not missed
    begin = begins_after(check_channel(channel))
    return reach.head if begin is None or begin < reach.floor else begin


async def atokens_since(channel: str) -> int:
    """``tokens_since`` for async code."""
    return await sync_to_async(tokens_since)(channel)


class TokenStream:
    """One text that grows. Made by ``token_stream``."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.reason: Reason | None = None
        """Why it ended; ``None`` while it has not."""
        self._parts: list[str] = []
        self._rest = ""
        """What was sent and not yet written."""
        self._at = 0
        self._open = False
        self._failure: Exception | None = None

    @property
    def text(self) -> str:
        """All that was sent so far."""
        return "".join(self._parts)

    async def send(self, token: str) -> None:
        """Add ``token`` to the text: it is on its way at once, or ``INTERVAL`` after what went before.

        Waits only while the log is far behind. Raises what the database raised if it could not be written for long, and
        at once what is raised for any other reason; ``TypeError`` for what is no text.
        """
        if not self._open:
            raise RuntimeError("Send within the block: async with token_stream(channel) as stream.")
        given: Any = token
        if not isinstance(given, str):
            kind = type(given).__name__
            raise TypeError(f"A token is a str, and this is of type {kind}. Leave out what of a service has no text.")
        if self._failure:
            raise self._failure
        self._parts.append(token)
        self._rest += token
        self._news.set()
        if len(self._rest) > WAITING:
            self._room.clear()
            await self._room.wait()
        if self._failure:
            raise self._failure

    def stop(self) -> None:
        """End the block at its next ``await``. Called in its event loop; from elsewhere use ``stop_tokens``."""
        if self._open and self._deadline.when() is None:
            self._deadline.reschedule(asyncio.get_running_loop().time())

    async def __aenter__(self) -> TokenStream:
        self._news, self._room, self._closing = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._deadline = asyncio.timeout(None)
        await self._deadline.__aenter__()
        self._open = True
        self._writer = Writer.current()
        self._writer.add(self)
        self._flushing = asyncio.create_task(self._flush())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._open = False
        ended_it = False
        try:
            await self._deadline.__aexit__(kind, error, traceback)
        except TimeoutError:
            ended_it = True  # the exception is ours, and goes no further
        # A stop that came too late to end the block was none: the text is whole.
        self.reason = "stopped" if self._deadline.expired() else "failed" if error else "end"
        ending = asyncio.create_task(self._end(self.reason))
        try:
            await asyncio.shield(ending)
        except asyncio.CancelledError:
            await asyncio.wait({ending})  # the end is stored all the same; only who is cancelled again leaves at once
            raise
        return ended_it

    async def _flush(self) -> None:
        """Write what there is, at once and then each ``INTERVAL``, until the end."""
        while not self._closing.is_set():
            await self._news.wait()
            self._news.clear()
            if items := self._take():
                try:
                    await self._write(items)
                except Exception as error:  # of whatever kind: who sends must not wait for what nobody writes
                    self._failure = error
                    raise
                finally:
                    self._room.set()
                with suppress(TimeoutError):
                    async with asyncio.timeout(INTERVAL):
                        await self._closing.wait()

    def _take(self) -> list[Item]:
        """Return the events of what there is, but for half a character at its end."""
        text, self._rest = split(self._rest)
        items: list[Item] = []
        for part in _portions(text):
            items.append((self.channel, PIECE, piece(self._at, part)))
            self._at += width(part)
        return items

    async def _write(self, items: list[Item]) -> Event:
        """Write ``items`` and return the last one's event. Tries again: a piece that is there twice does no harm."""
        until = monotonic() + PATIENCE
        while True:
            try:
                return (await self._writer.write(items))[-1]
            except DatabaseFailure as error:
                if monotonic() > until:
                    raise
                logger.warning("A generated text cannot be written at the moment; it is kept: %r", error)
                await asyncio.sleep(PAUSE)

    async def _end(self, reason: Reason) -> None:
        try:
            await self._store_end(reason)
        finally:
            self._writer.discard(self)

    async def _store_end(self, reason: Reason) -> None:
        self._closing.set()
        self._news.set()
        await self._flushing
        items = self._take()
        if self._rest:  # half of a character, whose other half never came
            items.append((self.channel, PIECE, piece(self._at, REPLACEMENT)))
            self._at += 1
        end = piece(0, join(self.text), reason=reason)
        if not (whole := fits(end)):  # then the pieces stay, and the end is only that
            end = piece(self._at, "", reason=reason)
        done = await self._write([*items, (self.channel, DONE, end)])
        try:
            await self._writer.run(lambda: compact(done, whole=whole))
        except DatabaseFailure as error:
            logger.warning("The pieces of a generated text stay in the log: %r", error)


def _portions(text: str) -> Iterator[str]:
    """Yield ``text`` in parts that fit into an event each."""
    if len(text) < 2 or fits(piece(10**12, text)):
        if text:
            yield text
    else:
        yield from _portions(text[: len(text) // 2])
        yield from _portions(text[len(text) // 2 :])
