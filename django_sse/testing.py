"""For tests: what was published, and what a browser would make of a stream.

::

    with capture_events("public.orders") as events:
        order.save()
    assert [event.type for event in events] == ["status"]

    async with listen(AsyncClient(), "/events/?channel=public.orders") as stream:
        await asend_event("public.orders", "status", {"id": 7})
        assert (await stream.next()).json() == {"id": 7}

A stream reads committed rows: use ``TransactionTestCase`` or ``django_db(transaction=True)``, and on SQLite a file
for the test database (``DATABASES["default"]["TEST"] = {"NAME": …}``), since the stream has a connection of its own.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from django.db.models import Max

from django_sse.conf import settings
from django_sse.control import CONTROL
from django_sse.models import Event
from django_sse.parser import Parser, ReceivedEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from django.test import AsyncClient

__all__ = ["EventReader", "Parser", "ReceivedEvent", "capture_events", "listen"]


@contextmanager
def capture_events(*channels: str) -> Iterator[list[Event]]:
    """Give a list that holds, at the end of the block, the events it stored, in the order of ``send_event``.

    ``channels``: those alone; none: all. What was rolled back is not there; nothing needs to be committed, so it works
    in a ``TestCase``. Ephemeral events leave no row and are not seen.
    """
    rows = Event.objects.using(settings.DATABASE)
    before = rows.aggregate(last=Max("pk"))["last"] or 0
    captured: list[Event] = []
    yield captured
    rows = rows.filter(pk__gt=before).order_by("pk")
    captured += rows.filter(channel__in=channels) if channels else rows.exclude(channel=CONTROL)


class EventReader:
    """An open stream in a test, read as a browser reads it."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self.parser = Parser()
        self._pieces = pieces
        self._events: list[ReceivedEvent] = []

    async def next(self, timeout: float = 10) -> ReceivedEvent:  # noqa: ASYNC109 - a test names its patience
        """Wait for the next event. Raises ``TimeoutError``, and ``EOFError`` when the stream has ended."""
        async with asyncio.timeout(timeout):
            while not self._events:
                try:
                    self._events = self.parser.feed(await anext(self._pieces))
                except StopAsyncIteration:
                    raise EOFError("The stream has ended.") from None
        return self._events.pop(0)


@asynccontextmanager
async def listen(client: AsyncClient, path: str, *, last_event_id: str | None = None) -> AsyncIterator[EventReader]:
    """Open the stream at ``path`` as ``client`` and give its reader; the stream is closed at the end of the block.

    ``last_event_id``: what a browser that reconnects presents. Raises ``AssertionError`` for any answer but a stream.
    """
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    response: Any = await client.get(path, headers=headers)
    if response.status_code != 200 or not response.streaming:
        raise AssertionError(f"{path} answered {response.status_code}, not a stream: {response.content!r:.200}")
    pieces = aiter(response.streaming_content)
    reader = EventReader(pieces)
    reader._events += reader.parser.feed(await anext(pieces))  # open: from here on, nothing is missed
    try:
        yield reader
    finally:
        await pieces.aclose()
        await response._iterator.aclose()  # Django's wrapper leaves what it wraps to the garbage collector
