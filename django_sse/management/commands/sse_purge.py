from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from django_sse import log, retention
from django_sse.channels import check_channel

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    help = "Delete every event of a channel, or of a user who has left, for good; running servers forget them too."

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--channel", help="A channel.")
        which.add_argument(
            "--user",
            metavar="PK",
            help="The primary key of a user: the channel user.PK, and tokens.PK.* of generated texts.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        user = options["user"]
        try:
            channels = [check_channel(options["channel"] if user is None else f"user.{user}")]
        except ValueError as error:
            raise CommandError(str(error)) from error
        if user is not None:
            channels += log.token_channels(user)
        self.stdout.write(f"Purged {retention.purge(*channels)} events of {', '.join(channels)}")
