"""Calls a server's ``send`` without a task, where that is known to be safe. No Django in here.

To wake a task for each stream costs more than what the server does with the bytes. A coroutine that does not have to
wait runs to its end in one step, and any code may take that step. But ``send`` may be wrapped by somebody who wants to
be in a task, ``asyncio.timeout`` for example, and would then cancel the wrong one. So only servers whose own ``send``
has been tried are stepped; what wraps it is not one of them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    Send = Callable[[dict[str, Any]], Awaitable[None]]

__all__ = ["can_step", "step"]

KNOWN: Final = frozenset(
    {
        "uvicorn.protocols.http.h11_impl.RequestResponseCycle",
        "uvicorn.protocols.http.httptools_impl.RequestResponseCycle",
    }
)
"""Classes whose method ``send`` touches no task but to wait until the client has room."""


def can_step(send: Send) -> bool:
    """Tell whether ``send`` is the own one of a server that is known to stand it."""
    owner = type(getattr(send, "__self__", None))
    code = getattr(send, "__code__", None)  # a wrapper, put there by whomever, may copy any name but this one
    is_its_own = code is not None and code.co_qualname == f"{owner.__qualname__}.send"
    return is_its_own and f"{owner.__module__}.{owner.__qualname__}" in KNOWN


def step(send: Send, message: dict[str, Any]) -> Future[None] | None:
    """Send ``message`` at once and return None; or, where the client has no room, what is done when it has gone.

    Nothing may be sent before that. Raises what ``send`` raises.
    """
    sending: Any = send(message)
    try:
        waits_for = sending.send(None)
    except StopIteration:
        return None
    return asyncio.ensure_future(_Rest(sending, waits_for))


class _Rest:
    """What is left of a coroutine that was begun without a task: to be awaited in one."""

    def __init__(self, coroutine: Coroutine[Any, None, None], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, None, None]:
        yield self._waits_for  # a future: the task goes on when it is done, and the coroutine looks at it then
        yield from self._coroutine.__await__()
