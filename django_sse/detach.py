"""How a view hands its stream to the ASGI application around Django, so that the request ends and the stream goes on.

The application puts a ``Slot`` into the request's scope; the view leaves its stream there and returns an ordinary
response that bears the slot's token. Middleware may still replace that response by another. Only when the one with
the token arrives at the application, which is before Django asks for its body, is the stream detached: Django is then
given an empty body, and the application writes the stream itself once Django has finished.
"""

from __future__ import annotations

from contextlib import aclosing
from contextvars import ContextVar
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable

__all__ = ["KEY", "Body", "Slot", "current_slot"]

KEY: Final = "django_sse"
"""Of the slot in the scope."""
_HEADER: Final = "X-Django-SSE-Detached"


class Body(Protocol):
    """What can leave its request: the body of a response, and a way to end it."""

    writer: Callable[[bytes], bool] | None
    """Set by whoever reads the pieces, where it can be done: writes one at once while the next is waited for, in the
    same loop. False: there is no room. A body need not use it."""

    def __aiter__(self) -> AsyncGenerator[bytes, None]:
        """The pieces, once."""

    def end(self) -> None:
        """End after what is being written. Called in the event loop that reads the pieces."""


class Slot:
    """The place in one request's scope where its view may leave a stream."""

    def __init__(self) -> None:
        self.stream: Body | None = None
        self.detached = False
        self._token = token_urlsafe(12)

    def take(self, message: dict[str, Any]) -> dict[str, Any]:
        """Detach the stream if ``message``, the start of the response, is the view's; return what the client gets."""
        mark = _HEADER.lower().encode()
        headers = list(message.get("headers", ()))
        kept = [(name, value) for name, value in headers if bytes(name).lower() != mark]
        if self.stream and len(kept) < len(headers):
            self.detached = (mark, self._token.encode()) in [(bytes(n).lower(), bytes(v)) for n, v in headers]
        return {**message, "headers": kept}

    def offer(self, stream: Body, plain: AsyncIterable[bytes]) -> tuple[AsyncIterable[bytes], dict[str, str]]:
        """Leave ``stream`` here; return the body and the headers of a response to carry it past the middleware.

        ``plain``: the same stream as Django is to serve it, where it is not detached. There is room for one: a second
        stream of the same request is served so.
        """
        if self.stream is not None:
            return plain, {}
        self.stream = stream
        return self._body(plain), {_HEADER: self._token}

    async def _body(self, plain: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        if not self.detached:  # somebody between the application and Django hides the start: serve it here
            async with aclosing(cast("AsyncGenerator[bytes, None]", aiter(plain))) as pieces:
                async for data in pieces:
                    yield data


current_slot: ContextVar[Slot | None] = ContextVar("django_sse_slot", default=None)
"""That of the request that is being answered, for a response, which is made without its request."""
