from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand
from django.db import Error as DatabaseFailure
from django.db import connections

from django_sse import log
from django_sse.brokers import get_broker
from django_sse.conf import settings
from django_sse.sequencer import rounds

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    help = (
        "Give committed events their positions and ring the doorbell, so that publishers need not. "
        "For DJANGO_SSE['DEDICATED_SEQUENCER'] = True; without it, it only helps. Ctrl-C ends it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--interval", type=int, default=5, help="Milliseconds between two looks while nothing is published."
        )
        parser.add_argument("--count", type=int, help="Stop after so many events.")

    def handle(self, *args: Any, **options: Any) -> None:
        pause, left = options["interval"] / 1000, options["count"]
        if not getattr(get_broker(), "crosses_processes", False):
            self.stderr.write("This broker does not cross processes: browsers are told by the poll of their server.")
        self.stdout.write("Numbering committed events. Ctrl-C ends it.")
        self.stdout.flush()
        try:
            while left is None or left > 0:
                numbered = self._number()
                if left is not None:
                    left -= numbered
                if not numbered:
                    time.sleep(pause)  # the look itself: nothing else tells that another process has committed
        except KeyboardInterrupt:
            pass

    def _number(self) -> int:
        events = 0
        try:
            if log.unnumbered():
                for numbered in rounds():
                    events += numbered.events
                    get_broker().notify(numbered.head)
        except DatabaseFailure as error:
            self.stderr.write(f"The database does not answer, trying again: {error}")
            connections[settings.DATABASE].close()
            time.sleep(1)
        return events
