"""The thread that watches this machine and tells the dashboard."""

from __future__ import annotations

import logging
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from django.db import DatabaseError, connection
from django.utils import timezone

from demo_project.dashboard import health, machine
from demo_project.dashboard.channel import DASHBOARD, tell_alert
from demo_project.dashboard.threshold import Threshold
from django_sse import retention, send_event

if TYPE_CHECKING:
    from demo_project.dashboard.health import Part

__all__ = ["Sampler"]

logger = logging.getLogger(__name__)

PERIOD: Final = 2.0
"""Seconds between two samples."""
STATUS_EVERY: Final = 5
"""Samples after which the health is told although nothing changed, for its figures."""
ALERT_EVERY: Final = 60
"""Samples after which a raised alert is told again: it stays among the last 200 events, which a page begins with."""
TRIM_EVERY: Final = 300
KEEP: Final = 20_000
"""Events that the demo's log keeps: about eleven hours of samples."""


class Sampler(Thread):
    """Publishes a ``metric`` each period, a ``status`` on change and every so often, an ``alert`` on crossing
    a threshold, every so often while it is crossed, and on coming back. A daemon: Ctrl-C need not wait for it."""

    def __init__(self, *, serves: bool = True) -> None:
        """``serves``: this process also has the streams, so that their number is worth telling."""
        super().__init__(name="demo sampler", daemon=True)
        self._serves = serves
        self._stop_asked = Event()
        self._told: dict[str, object] = {}
        self._memory = Threshold("memory", "critical", "Memory is {figure} % in use", limit=90, clear_below=87)
        self._disk = Threshold("disk", "warning", "The disk is {figure} % full", limit=95, clear_below=94)
        self._load = Threshold(
            "load",
            "warning",
            f"Load is {{figure}}, more than four times the {machine.cores()} cores",
            limit=4 * machine.cores(),
            clear_below=3 * machine.cores(),
        )

    def stop(self) -> None:
        """Publish no more; return when that is so."""
        self._stop_asked.set()
        self.join()

    def run(self) -> None:
        machine.measure()  # the first CPU figure means nothing: it says "since the last call"
        count = 0
        while not self._stop_asked.wait(PERIOD):
            try:
                self._once(count)
            except DatabaseError:
                # A locked or vanished file is what the page shows as silence; the next round tries again.
                logger.exception("The sampler could not publish")
            count += 1
        connection.close()

    def _once(self, count: int) -> None:
        sample = machine.measure()
        send_event(DASHBOARD, "metric", {**sample._asdict(), "cores": machine.cores(), "at": timezone.now()})
        again = count % ALERT_EVERY == 0
        self._look(self._memory, sample.memory, again=again)
        self._look(self._load, sample.load, again=again)
        self._look(self._disk, health.disk_percent(), again=again)
        self._tell_health(health.examine(serves=self._serves), due=count % STATUS_EVERY == 0)
        if count % TRIM_EVERY == 0:
            retention.trim(keep=KEEP)

    def _tell_health(self, parts: list[Part], *, due: bool) -> None:
        # What changes with every sample, such as the head of the log, is no news.
        state: dict[str, object] = {part.name: part.healthy for part in parts}
        state |= {part.name: part.value for part in parts if part.name == "Streams"}
        if due or state != self._told:
            self._told = state
            send_event(DASHBOARD, "status", {"parts": [part._asdict() for part in parts]})

    def _look(self, threshold: Threshold, figure: float, *, again: bool) -> None:
        if threshold.look(figure) or (again and threshold.crossed):
            tell_alert(threshold.name, threshold.level, threshold.describe(figure), raised=bool(threshold.crossed))
