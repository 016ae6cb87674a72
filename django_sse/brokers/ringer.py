"""The thread that rings at other processes, so that no publisher waits for a broker's server."""

from __future__ import annotations

import atexit
import logging
import os
from collections import deque
from threading import Condition, Thread
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Ringer"]

logger = logging.getLogger(__name__)

WAITING: Final = 1000
"""Ephemeral messages, and announcements, kept while the server is slow; the oldest go first."""
FAREWELL: Final = 1.0
"""Seconds that a process that ends gives to what it has just published."""


class Ringer:
    """Hands messages to ``publish`` in a thread of its own.

    Positions that come faster than they can be told become one: the last says it all. What cannot be told is dropped,
    with one line in the log per outage: for a stored event the poll takes over, an ephemeral one is lost. An
    announcement is made again anyway, so those go last, and nobody counts them.
    """

    def __init__(self, publish: Callable[[int | str | dict[str, Any]], None]) -> None:
        self._publish = publish
        self._forget()
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self._say_farewell)

    def _forget(self) -> None:
        self._changed = Condition()
        self._position: int | None = None
        self._messages: deque[str] = deque(maxlen=WAITING)
        self._announcements: deque[dict[str, Any]] = deque(maxlen=WAITING)
        self._thread: Thread | None = None
        self._busy = False
        self._failing = False

    def ring(self, position: int) -> None:
        """Tell ``position`` soon. Returns at once, raises nothing."""
        with self._changed:
            self._position = max(position, self._position or 0)
            self._wake()

    def send(self, message: str) -> None:
        """Tell ``message`` soon. Returns at once, raises nothing."""
        with self._changed:
            self._messages.append(message)
            self._wake()

    def announce(self, announcement: dict[str, Any]) -> None:
        """Tell ``announcement`` soon. Returns at once, raises nothing."""
        with self._changed:
            self._announcements.append(announcement)
            self._wake()

    def _wake(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = Thread(target=self._run, name="django_sse ringer", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # no more threads, or Python is ending; what is stored is committed by now
                if not self._failing:
                    logger.warning("The broker cannot be told, for its thread cannot be started: %r", error)
                self._failing = True
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(self._has_work)
                self._busy = True
                work: list[int | str | dict[str, Any]] = [*self._messages]
                self._messages.clear()
                if self._position is not None:
                    work.append(self._position)
                    self._position = None
                work += self._announcements
                self._announcements.clear()
            self._tell(work)

    def _tell(self, work: list[int | str | dict[str, Any]]) -> None:
        for told, message in enumerate(work):
            try:
                self._publish(message)
            except Exception as error:
                lost = sum(isinstance(item, str) for item in work[told:])
                if lost or not self._failing:
                    logger.warning("The broker cannot be told (ephemeral events lost: %d): %r", lost, error)
                self._failing = True
                return
        self._failing = False

    def _has_work(self) -> bool:
        return self._position is not None or bool(self._messages) or bool(self._announcements)

    def _say_farewell(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not (self._busy or self._has_work()), FAREWELL)
