"""Ending every stream when the process is told to stop, since most servers wait for open responses for ever.

A signal handler is put before the server's own when the first stream opens: by then the server has installed its own.
It tells the hubs and calls that one a moment later. Only in the main thread, where Python allows it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from django_sse.conf import settings
from django_sse.hub import Hub

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["is_draining", "listen"]

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
FAREWELL: Final = 0.2
"""Seconds between the end of the streams and the server's own handler. daphne stops its loop at once when that is
called, and what was not written by then is cut."""

LATECOMERS: Final = 5.0
"""Seconds after the signal in which new streams end at once: the server still accepts for a moment, and would then
wait for them."""

_before: dict[int, Any] = {}
_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
_until = 0.0


def listen() -> None:
    """End the streams of this process at SIGTERM and SIGINT, from now on. Cheap to call again, in the event loop."""
    if not settings.HANDLE_SIGNALS or threading.current_thread() is not threading.main_thread():
        return
    _loops.add(asyncio.get_running_loop())
    for number in SIGNALS:
        current = signal.getsignal(number)
        if current is not _drain and current is not None:
            _before[number] = current
            signal.signal(number, _drain)


def is_draining() -> bool:
    """Whether a stream that opens now is to end at once."""
    return time.monotonic() < _until


def _drain(number: int, frame: FrameType | None) -> None:
    global _until
    _until = time.monotonic() + LATECOMERS
    Hub.drain_all()
    running = [loop for loop in _loops if loop.is_running()]
    _loops.clear()  # a second signal does not wait
    if running:
        running[0].call_soon_threadsafe(running[0].call_later, FAREWELL, _pass_on, number, frame)
    else:
        _pass_on(number, frame)


def _pass_on(number: int, frame: FrameType | None) -> None:
    before = _before[number]
    if callable(before):
        before(number, frame)
    elif before == signal.SIG_DFL:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
