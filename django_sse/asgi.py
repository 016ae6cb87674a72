"""The ASGI application of a project that serves event streams."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from django.core.asgi import get_asgi_application as django_asgi_application

from django_sse.conf import settings
from django_sse.connection import Connection
from django_sse.detach import KEY, Slot, current_slot

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Semaphore, TimerHandle
    from collections.abc import Awaitable, Callable

    from django_sse.detach import Body

    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["get_asgi_application"]

PATIENCE: Final = 5.0
"""Seconds after which one request's turn ends, whatever it is still doing: the others must not wait for it."""


def get_asgi_application() -> DetachingApplication:
    """Return the application for ``asgi.py``, in place of ``django.core.asgi.get_asgi_application``.

    It is Django's own, but a stream outlives its request: while it is open it holds no thread, no database connection
    and no request. The middleware has run by then, and ``request_finished`` was sent.
    """
    return DetachingApplication(cast("Application", django_asgi_application()))


class DetachingApplication:
    """``application``, Django's, and the streams that its views leave behind. Everything else passes through."""

    made = False
    """Whether this process has one: a check tells who serves streams without it."""

    def __init__(self, application: Application) -> None:
        type(self).made = True
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        client = Connection(receive, send)
        # A task of its own: Django leaves things in its task's context, and a stream would keep those for hours.
        body = await asyncio.create_task(self._request(scope, client, send))
        # Nothing of the request is left but this. If nobody is there to read it, it is not begun: it may be dear.
        if body and not client.gone:
            await client.serve(body, settings.WRITE_TIMEOUT)
        else:
            client.forget()

    async def _request(self, scope: Scope, client: Connection, send: Send) -> Body | None:
        """Have Django answer; return what it left behind."""
        slot = Slot()
        turn = _Turn()

        async def send_on(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = slot.take(message)
                if not slot.detached:
                    turn.end()  # it may stay for hours
            elif slot.detached:
                return  # the empty body that Django was given
            await send(message)

        # Who has not done asking holds no thread yet, and whoever never does would keep the others waiting.
        if _wants_stream(scope) and await client.has_asked():
            await turn.come()
        asked = current_slot.set(slot)
        try:
            await self._application({**scope, KEY: slot}, client.receive, send_on)
        finally:
            current_slot.reset(asked)
            turn.end()
        return slot.stream if slot.detached else None


def _wants_stream(scope: Scope) -> bool:
    accepts = any(name == b"accept" and b"text/event-stream" in value for name, value in scope["headers"])
    return accepts and scope["method"] == "GET"


class _Turn:
    """A client's turn to have its stream opened: middleware takes a thread and a database connection for each, and when
    a server starts, all its clients come at once. Only an EventSource waits for one, which says what it accepts."""

    _doors: WeakKeyDictionary[AbstractEventLoop, Semaphore] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._door: Semaphore | None = None
        self._timer: TimerHandle | None = None

    async def come(self) -> None:
        loop = asyncio.get_running_loop()
        door = self._doors.get(loop)
        if door is None:
            door = self._doors[loop] = asyncio.Semaphore(settings.MAX_OPENING)
        await door.acquire()
        self._door = door
        self._timer = loop.call_later(PATIENCE, self.end)

    def end(self) -> None:
        if self._door:
            self._door.release()
            self._door = None
        if self._timer:
            self._timer.cancel()
            self._timer = None
