from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from django_sse import retention


class Command(BaseCommand):
    help = "Delete the events that DJANGO_SSE['RETENTION'] does not keep. Run it from time to time, say once an hour."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"Trimmed {retention.apply()} events")
