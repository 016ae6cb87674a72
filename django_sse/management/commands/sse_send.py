from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from django_sse.publish import send_event

if TYPE_CHECKING:
    from django.core.management.base import CommandParser


class Command(BaseCommand):
    help = "Publish one event: sse_send public.orders status '{\"id\": 7}'"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("channel")
        parser.add_argument("event_type", help="What the page listens for; 'message' is what onmessage receives.")
        parser.add_argument("data", help="A JSON value; with --text, any text.")
        parser.add_argument("--text", action="store_true", help="Send the data as it is, not as JSON.")
        parser.add_argument("--key", help="Publish once per channel and key.")

    def handle(self, *args: Any, **options: Any) -> None:
        data = options["data"]
        try:
            content = {"text": data} if options["text"] else {"data": json.loads(data)}
        except ValueError as error:
            raise CommandError(f"The data is not JSON ({error}). Quote it for the shell, or use --text.") from error
        try:
            event = send_event(options["channel"], options["event_type"], key=options["key"], **content)
        except ValueError as error:
            raise CommandError(str(error)) from error
        position = event.position if event else None
        self.stdout.write(f"Published at position {position}" if position else "Published")
