"""What a client is owed now, for answers that end: where no connection may stay open, and as JSON.

One statement reads the head and the events, so both are of one moment: nothing can be trimmed or committed in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from django.db import connections
from django.http import HttpResponse, JsonResponse

from django_sse import log, wire
from django_sse.conf import settings
from django_sse.descriptors import needs_descriptors
from django_sse.models import Event, Head
from django_sse.parser import Parser
from django_sse.reader import PAGE, frame
from django_sse.sequencer import sequence
from django_sse.stream import retry, start

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpRequest

    from django_sse.cursor import Cursor
    from django_sse.stream import Start

__all__ = ["Due", "due", "wants_json"]

_NEVER: Final = 2**63 - 1
_STREAM, _JSON = "text/event-stream", "application/json"


def wants_json(request: HttpRequest) -> bool:
    """Tell whether the client asks for JSON, and rather than for an event stream."""
    return request.get_preferred_type([_STREAM, _JSON]) == _JSON


class Due(NamedTuple):
    """Where the client ``start``s, at most a page of ``events`` for it, and the ``cursor`` after them.

    ``more``: the log has the next page already.
    """

    start: Start
    events: list[log.Row]
    cursor: int
    more: bool

    def stream(self, snapshot: bytes = b"", *, audible: bool = False) -> bytes:
        """Return the body of an event stream that ends: the browser comes back after its ``retry:``."""
        end = b"" if self.more else wire.mark(self.cursor)
        return b"".join(
            [self.start.opening(snapshot, 0 if audible else None), *(frame(event).data for event in self.events), end]
        )

    def json(self, snapshot: bytes = b"") -> HttpResponse:
        """Return the same as JSON: ``events``, each with the ``id``, ``type`` and ``data`` that a browser would see,
        the ``cursor`` to ask with, whether there is ``more`` already, else after how many milliseconds to ``retry``,
        and ``reset``: null, or the reason for which what the client had cannot be continued."""
        parser = Parser()
        first = [{"id": None, "type": event.type, "data": event.data} for event in parser.feed(snapshot)]
        parser.feed(retry())
        events = parser.feed(b"".join([frame(event).data for event in self.events]))
        body = {
            "events": [*first, *({"id": int(e.last_event_id), "type": e.type, "data": e.data} for e in events)],
            "cursor": self.cursor,
            "more": self.more,
            "retry": 0 if self.more else parser.retry,
            "reset": self.start.reason,
        }
        return JsonResponse(body, headers={"Cache-Control": "no-store, private", "Vary": "Accept, Cookie"})

    def answer(self, request: HttpRequest, snapshot: bytes, stream: Any, *, audible: bool = False) -> HttpResponse:
        """Return what this request asked for; ``stream`` makes a response of an event stream's bytes."""
        return self.json(snapshot) if wants_json(request) else stream(self.stream(snapshot, audible=audible))


@needs_descriptors()
def due(channels: Iterable[str], cursor: Cursor, *, last: int = 0) -> Due:
    """Return what a client at ``cursor`` is owed now: ``None``, which stands for none presented, is owed nothing yet.

    ``last``: the newest so many events too, even if they are older. Raises what the database raises.
    """
    names = sorted(channels)
    before_last = log.cursor_before_last(names, last) if last else None
    # A client may present any number; beyond this one a database refuses it, and nothing is there anyway.
    known = [_NEVER, *(position for position in (cursor, before_last) if isinstance(position, int))]
    reach, unnumbered, events = _read(names, min(known))
    if unnumbered:
        sequence()  # where nothing but WSGI runs there is no hub to do it
        reach, _, events = _read(names, min(known))
    begin = start(cursor, reach, before_last)
    events = [event for event in events if begin.reason is None and event.position > begin.position]
    more = len(events) > PAGE
    end = events[PAGE - 1].position if more else reach.head
    return Due(begin, events[:PAGE], end, more)


def _read(channels: list[str], cursor: int) -> tuple[log.Reach, bool, list[log.Row]]:
    """Return the reach of the log, whether committed rows wait for their positions, and a page and one event more."""
    table, head = Event._meta.db_table, Head._meta.db_table
    marks = ", ".join(["%s"] * len(channels))
    columns = log.Row._fields
    with connections[settings.DATABASE].cursor() as database:
        database.execute(
            f"SELECT head.floor, head.position, EXISTS (SELECT 1 FROM {table} WHERE position IS NULL), "
            f"{', '.join(f'event.{name}' for name in columns)} FROM {head} AS head LEFT JOIN "
            # Rows that are still there behind the floor are no longer of the log, and would fill the page.
            f"(SELECT {', '.join(columns)} FROM {table} WHERE position > %s AND channel IN ({marks}) "
            f"AND position > (SELECT floor FROM {head} WHERE id = 1) "
            f"ORDER BY position LIMIT {PAGE + 1}) AS event ON event.position <= head.position "
            f"WHERE head.id = 1 ORDER BY event.position",
            [cursor, *channels],
        )
        rows = database.fetchall()
    if not rows:  # nothing was ever published, or nothing was numbered yet
        return log.Reach(0, 0), log.unnumbered(), []
    field: Any = Event._meta.get_field("data")
    events = [
        log.Row(row[3], row[4], row[5], field.from_db_value(row[6], None, database))
        for row in rows
        if row[3] is not None
    ]
    return log.Reach(rows[0][0], rows[0][1]), bool(rows[0][2]), events
