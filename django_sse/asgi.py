"""The ASGI application of a project that serves event streams."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, cast

from django.core.asgi import get_asgi_application as django_asgi_application

from django_sse.detach import KEY, Slot, current_slot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django_sse.detach import Body

    Scope = dict[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    Application = Callable[[Scope, Receive, Send], Awaitable[None]]

__all__ = ["get_asgi_application"]

END: Final = {"type": "http.response.body", "body": b"", "more_body": False}

logger = logging.getLogger(__name__)


def get_asgi_application() -> DetachingApplication:
    """Return the application for ``asgi.py``, in place of ``django.core.asgi.get_asgi_application``.

    It is Django's own, but a stream outlives its request: while it is open it holds no thread, no database connection
    and no request. The middleware has run by then, and ``request_finished`` was sent.
    """
    return DetachingApplication(cast("Application", django_asgi_application()))


class DetachingApplication:
    """``application``, Django's, and the streams that its views leave behind. Everything else passes through."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        slot = Slot()
        client = _Client(receive)

        async def send_on(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = slot.take(message)
            elif slot.detached:
                return  # the empty body that Django was given
            await send(message)

        asked = current_slot.set(slot)
        try:
            await self._application({**scope, KEY: slot}, client.receive, send_on)
        finally:
            current_slot.reset(asked)
        if slot.detached and slot.stream:
            await _write(slot.stream, client, send)
        else:
            client.forget()


class _Client:
    """What the client says: Django stops listening when it returns, and must not take a message with it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._waiting: asyncio.Task[dict[str, Any]] | None = None
        self.gone = False

    async def receive(self) -> dict[str, Any]:
        if self._waiting is None:
            self._waiting = asyncio.ensure_future(self._receive())
        message = await asyncio.shield(self._waiting)
        self._waiting = None
        self.gone = message["type"] == "http.disconnect"
        return message

    async def leaves(self, stream: Body) -> None:
        """End ``stream`` when the client has left."""
        while not self.gone:
            await self.receive()
        stream.end()

    def forget(self) -> None:
        if self._waiting:
            self._waiting.cancel()


async def _write(stream: Body, client: _Client, send: Send) -> None:
    watching = asyncio.create_task(client.leaves(stream))
    try:
        if client.gone:
            return
        async with aclosing(aiter(stream)) as pieces:
            async for data in pieces:
                await send({"type": "http.response.body", "body": data, "more_body": True})
        if not client.gone:
            await send(END)
    except asyncio.CancelledError:
        # daphne, told to stop, cancels what it serves at once. Its send does not wait, so the end still goes out.
        if not client.gone:
            await send(END)
        raise
    except OSError as error:  # how servers say that the client left while it was written to
        logger.debug("A client left: %r", error)
    finally:
        watching.cancel()
        client.forget()
