"""The client's end of one request, as a server shows it to an ASGI application. No Django in here.

ASGI says nothing of back pressure. With uvicorn, granian and hypercorn ``send`` waits for a slow client; daphne's
returns at once and keeps whatever the client does not read. Twisted, below daphne, tells a producer when to pause, so
a ``Valve`` is registered there. That, and cutting a connection, goes through what the server happens to bind its
``send`` to, so both are looked for and are left out where they are not found.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakKeyDictionary

from django_sse.stepper import can_step, step

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task
    from collections.abc import Awaitable, Callable

    from django_sse.detach import Body

    Message = dict[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]

__all__ = ["Connection", "Valve"]

logger = logging.getLogger(__name__)

END: Final = {"type": "http.response.body", "body": b"", "more_body": False}
SWEEP: Final = 0.25
"""Of the write timeout: how often is looked for writes that take longer."""
LAST_WORDS: Final = 1.0
"""Seconds that the end of a body may take where the server has cancelled it."""


class Valve:
    """A push producer of Twisted's, which says when the client takes no more."""

    def __init__(self, request: Any) -> None:
        self._request = request
        self._room = asyncio.Event()
        self._room.set()

    @classmethod
    def of(cls, send: Send) -> Valve | None:
        """Return a valve on the transport behind ``send``, or None where that is not Twisted's or has a producer."""
        register = getattr(_bound(send), "registerProducer", None)
        if register is None:
            return None
        valve = cls(_bound(send))
        try:
            register(valve, True)
        except (AttributeError, RuntimeError, ValueError):
            return None  # AttributeError: the client has left, and Twisted's request has no channel any more
        return valve

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's names
        self._room.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        self._room.set()

    def stopProducing(self) -> None:  # noqa: N802
        self._room.set()

    async def wait(self) -> None:
        """Return when there is room."""
        if not self._room.is_set():
            await self._room.wait()

    def close(self) -> None:
        """Be a producer no more: a request that ends with one is an error to Twisted, which logs its whole URL."""
        with suppress(AttributeError):  # the client has left
            self._request.unregisterProducer()


class Connection:
    """What one client says and is sent."""

    __slots__ = ("_body", "_error", "_receive", "_rest", "_send", "_since", "_stalled", "_task", "_waiting", "gone")
    _writing: ClassVar[WeakKeyDictionary[AbstractEventLoop, set[Connection]]] = WeakKeyDictionary()

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._waiting: Future[Message] | None = None
        self._body: Body | None = None
        self._rest: Future[None] | None = None
        """A piece that the client has no room for yet."""
        self._error: BaseException | None = None
        self._since: float | None = None
        self._task: Task[Any] | None = None
        self._stalled = False
        self.gone = False

    async def receive(self) -> Message:
        """Hear the client, for Django: it stops listening when it returns, and must not take a message with it."""
        message = await asyncio.shield(self._hearing())
        self._waiting = None
        self.gone = message["type"] == "http.disconnect"
        return message

    async def has_asked(self) -> bool:
        """Wait for the beginning of the request, which is left to ``receive``, and tell whether it was all of it."""
        hearing = self._hearing()
        await asyncio.wait({hearing})
        if hearing.exception():
            return False
        message = hearing.result()
        return message["type"] == "http.request" and not message.get("more_body")

    def forget(self) -> None:
        """Listen no more."""
        if self._waiting:
            self._waiting.cancel()

    async def serve(self, body: Body, patience: float) -> None:
        """Write ``body`` until it ends or the client leaves, who is cut off when a write takes longer than ``patience``
        seconds."""
        loop = asyncio.get_running_loop()
        self._body, self._task = body, asyncio.current_task()
        valve = Valve.of(self._send)
        if can_step(self._send):
            body.writer = self._write
        pieces = aiter(body)
        self._listen()
        self._watch(loop, patience)
        try:
            async for data in pieces:
                if self._rest:
                    await asyncio.wait({self._rest})
                if self.gone or self._error:
                    break
                self._since = loop.time()
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
                if valve:
                    await valve.wait()
                self._since = None
            if self._rest:
                await asyncio.wait({self._rest})
            if self._error:
                raise self._error
            if not self.gone:
                if valve:
                    valve.close()
                self._since = loop.time()
                await self._send(END)
        except asyncio.CancelledError:
            if self._stalled and self._task:
                self._task.uncancel()  # it was our own doing
                logger.info("A client took nothing for %s s and was cut off", patience)
                await self._cut()
                return
            # daphne, told to stop, cancels what it serves at once. Its send does not wait, so the end still goes out;
            # where it would wait for a client that does not read, nobody has the time.
            if not self.gone:
                if valve:
                    valve.close()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LAST_WORDS):
                        await self._send(END)
            raise
        except Exception as error:
            in_send = error is self._error or (self._since is not None and self._rest is None)
            if in_send and isinstance(error, OSError):  # how servers say that the client left
                logger.debug("A client left: %r", error)
            elif await self._cut():
                logger.exception("A stream failed, and its client was cut off")
            else:  # the server's to end. daphne never does, and looks after no request any more, so it is cut above
                raise
        finally:
            self._writing[loop].discard(self)
            self.forget()
            body.writer = self._body = None
            if self._rest:
                self._rest.cancel()
            await pieces.aclose()

    def _write(self, data: bytes) -> bool:
        """Write ``data``, which the body has while it is waited for its next piece. False: not now, ask ``serve``."""
        if self._rest or self._error or self.gone:
            return False
        try:
            self._rest = step(self._send, {"type": "http.response.body", "body": data, "more_body": True})
        except Exception as error:
            self._fail(error)
        if self._rest:
            self._since = asyncio.get_running_loop().time()
            self._rest.add_done_callback(self._went)
        return True

    def _went(self, rest: Future[None]) -> None:
        self._rest = self._since = None
        if not rest.cancelled() and (error := rest.exception()):
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Have ``serve`` raise what was raised outside of it."""
        self._error = error
        if self._body:
            self._body.end()

    def _hearing(self) -> Future[Message]:
        if self._waiting is None:
            # In a context of its own: it may last as long as the stream, and Django's would keep what the request left.
            self._waiting = Context().run(asyncio.ensure_future, self._receive())
        return self._waiting

    def _listen(self) -> None:
        """End the body when the client leaves."""
        if not self.gone:
            self._hearing().add_done_callback(self._heard)
        elif self._body:
            self._body.end()

    def _heard(self, waiting: Future[Message]) -> None:
        if waiting.cancelled():
            return
        self._waiting = None
        self.gone = waiting.exception() is not None or waiting.result()["type"] == "http.disconnect"
        self._listen()

    def _watch(self, loop: AbstractEventLoop, patience: float) -> None:
        writing = self._writing.get(loop)
        if writing is None:  # an empty one still has its sweep to come
            writing = self._writing[loop] = set()
            loop.call_later(patience * SWEEP, _sweep, loop, writing, patience)
        writing.add(self)

    def check(self, now: float, patience: float) -> None:
        """Give up a write that has taken longer than ``patience``."""
        if self._task and self._since is not None and now - self._since > patience and not self._stalled:
            self._stalled = True
            self._task.cancel()

    async def _cut(self) -> bool:
        """Drop the connection with what the server still holds for it: an end would wait behind that, or say that the
        body is whole. False: this server leaves no way to."""
        transport = getattr(_bound(self._send), "transport", None)
        for name in ("abort", "abortConnection"):  # asyncio's, and Twisted's
            if abort := getattr(transport, name, None):
                abort()
                if self._waiting:  # else uvicorn complains of a body without an end
                    await asyncio.wait([self._waiting], timeout=1)
                return True
        return False


def _bound(send: Send) -> Any:
    """What the server has bound its ``send`` to: the object of the method, or the argument of the partial."""
    if isinstance(send, partial):
        return send.args[0] if send.args else None
    return getattr(send, "__self__", None)


def _sweep(loop: AbstractEventLoop, writing: set[Connection], patience: float) -> None:
    now = loop.time()
    for connection in writing:
        connection.check(now, patience)
    if writing:
        loop.call_later(patience * SWEEP, _sweep, loop, writing, patience)
    else:
        Connection._writing.pop(loop, None)
