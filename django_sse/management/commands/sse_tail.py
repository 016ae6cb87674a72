from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from django_sse import log
from django_sse.channels import check_channel
from django_sse.conf import settings
from django_sse.control import CONTROL
from django_sse.cursor import judge
from django_sse.readable import visible
from django_sse.sequencer import sequence

if TYPE_CHECKING:
    from django.core.management.base import CommandParser

    from django_sse.models import Event

PAGE = 500


class Command(BaseCommand):
    help = "Print events as they are published, in order. Ctrl-C ends it."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("channels", nargs="*", help="Only these channels; without any, all of them.")
        parser.add_argument("--since", type=int, help="Begin after this position; without it, with what comes now.")
        parser.add_argument("--count", type=int, help="Stop after so many events.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            channels = [check_channel(channel) for channel in options["channels"]] or None
        except ValueError as error:
            raise CommandError(str(error)) from error
        cursor = log.reach().head if options["since"] is None else options["since"]
        left = options["count"]
        try:
            while left is None or left > 0:
                cursor, events = self._next(cursor, channels, PAGE if left is None else min(left, PAGE))
                for event in events:
                    line = f"{event.position} {event.created_at:%H:%M:%S} {event.channel} {event.type} {event.data}"
                    self.stdout.write(visible(line))  # a terminal would obey what a user wrote, or show it as an event
                if left is not None:
                    left -= len(events)
                if not events and left != 0:
                    time.sleep(settings.POLL_INTERVAL)  # the poll itself: a command has no hub to be rung at
        except KeyboardInterrupt:
            pass

    def _next(self, cursor: int, channels: list[str] | None, limit: int) -> tuple[int, list[Event]]:
        if log.unnumbered():
            sequence()
        head = log.reach().head
        events = log.after(cursor, channels, limit, head)
        # The floor is read after the rows: none of them can have been trimmed unseen.
        if reason := judge(cursor, log.reach().floor, head):
            self.stderr.write(f"Position {cursor} cannot be continued ({reason}); going on from {head}.")
            return head, []
        cursor = (events[-1].position or cursor) if len(events) == limit else head
        return cursor, [event for event in events if event.channel != CONTROL]
