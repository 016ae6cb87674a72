"""One timer of the event loop for all streams: one for each would take more memory than the stream itself.

No Django in here.
"""

from __future__ import annotations

import asyncio
from heapq import heappop, heappush
from typing import TYPE_CHECKING, ClassVar, Protocol
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, TimerHandle

__all__ = ["Alarm", "Clock"]


class Timed(Protocol):
    """Who wants to be told that a time has come."""

    def tick(self) -> None:
        """It has. Returns at once, raises nothing."""


class Alarm:
    """A time, and whom to tell."""

    __slots__ = ("_timed", "when")

    def __init__(self, timed: Timed, when: float) -> None:
        self._timed: Timed | None = timed
        self.when = when

    def __lt__(self, other: Alarm) -> bool:
        return self.when < other.when

    def cancel(self) -> None:
        """Tell nobody. It stays in the clock until its time has come, and holds nobody there."""
        self._timed = None

    def ring(self) -> None:
        if self._timed:
            self._timed.tick()


class Clock:
    """Tells each at a time of its own. Times are those of the event loop."""

    _clocks: ClassVar[WeakKeyDictionary[AbstractEventLoop, Clock]] = WeakKeyDictionary()

    @classmethod
    def current(cls) -> Clock:
        """Return the running loop's clock."""
        loop = asyncio.get_running_loop()
        clock = cls._clocks.get(loop)
        if clock is None:
            clock = cls._clocks[loop] = cls()
        return clock

    def __init__(self) -> None:
        self._alarms: list[Alarm] = []
        self._timer: TimerHandle | None = None

    def tell(self, timed: Timed, when: float) -> Alarm:
        """Call ``timed.tick()`` once it is ``when``, unless the alarm that is returned is cancelled before."""
        alarm = Alarm(timed, when)
        heappush(self._alarms, alarm)
        if self._alarms[0] is alarm:
            self._set()
        return alarm

    def _set(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(self._alarms[0].when, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._alarms and self._alarms[0].when <= now:
            heappop(self._alarms).ring()
        if self._alarms and self._timer is None:
            self._set()
