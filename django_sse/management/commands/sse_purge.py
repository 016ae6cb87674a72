from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from django_sse import log
from django_sse.channels import check_channel

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    help = "Delete every event of a channel for good, say user.7 of a user who has left; running servers forget it too."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--channel", help="A channel.")
        which.add_argument("--user", metavar="PK", help="The primary key of a user: the channel user.PK.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            channel = check_channel(options["channel"] if options["user"] is None else f"user.{options['user']}")
        except ValueError as error:
            raise CommandError(str(error)) from error
        self.stdout.write(f"Purged {log.purge(channel)} events of {channel}")
