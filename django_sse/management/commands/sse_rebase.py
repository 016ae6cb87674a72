from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from django_sse import log, retention

if TYPE_CHECKING:
    from django.core.management.base import CommandParser

LEAP = 1_000_000


class Command(BaseCommand):
    help = (
        "Go on from a higher position after a backup was restored, so that no browser's old id is taken for a new one."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--to",
            type=int,
            help=f"A position beyond any that was given before the restore; without it, {LEAP:,} beyond the head.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        position = options["to"] if options["to"] is not None else log.reach().head + LEAP
        try:
            reach = retention.rebase(position)
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"The log goes on from position {reach.head}; clients with older ids are sent sse.reset")
