"""How much of the log one client may have read again: a bucket that fills as time passes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from django_sse.conf import settings

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Allowance", "replay"]

MINUTE: Final = 60.0
QUESTION: Final = 100
"""What a page costs at the least, in events: one that finds nothing is a query all the same."""
CLIENTS: Final = 10_000
"""Clients that are remembered; beyond that, those whose bucket is full again are forgotten."""


class Allowance:
    """``MAX_REPLAY`` events a minute for each client, by whatever name it is known. In one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._most = CLIENTS
        self._spent: dict[str, tuple[float, float]] = {}
        """Events, and when that was so. It shrinks by ``MAX_REPLAY`` a minute."""

    def is_spent(self, client: str) -> bool:
        """Tell whether ``client`` has to wait."""
        return settings.MAX_REPLAY is not None and bool(client) and self._now(client) >= settings.MAX_REPLAY

    def spend(self, client: str, events: int, *, least: int = QUESTION) -> None:
        """Note that ``client`` was given a page of so many ``events``, which counts as ``least`` at the least."""
        if settings.MAX_REPLAY is None or not client:
            return
        self._spent[client] = (self._now(client) + max(events, least), self._clock())
        if len(self._spent) > self._most:
            # Under WSGI other threads write meanwhile: so a list.
            self._spent = {name: entry for name, entry in list(self._spent.items()) if self._now(name) > 0}
            self._most = max(CLIENTS, 2 * len(self._spent))  # else each page would look at all who still have to wait

    def clear(self) -> None:
        """Forget everybody."""
        self._spent.clear()

    def _now(self, client: str) -> float:
        spent, at = self._spent.get(client, (0.0, 0.0))
        return max(0.0, spent - (self._clock() - at) * (settings.MAX_REPLAY or 0) / MINUTE)


replay: Final = Allowance()
"""The one of this process: it outlives hubs and streams."""
