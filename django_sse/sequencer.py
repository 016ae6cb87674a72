"""Give positions to committed events, gaplessly and in commit order.

An auto-increment key is taken at insertion, so it is not commit order, and a reader that asks for "id > last" loses
the event of a transaction that commits late. Positions are therefore given after commit, under the head's lock, to
every committed row that has none: whoever gets the lock numbers everybody's. Running it twice does nothing, and a
process that dies before it is healed by the next run, from any process.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from django.db import connections, transaction

from django_sse import log
from django_sse.conf import settings
from django_sse.models import Event, Head

__all__ = ["NUMBERING", "Numbered", "sequence"]

_EVENTS: Final = Event._meta.db_table
_WAITING: Final = f"SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS place FROM {_EVENTS} WHERE position IS NULL"
_FROM: Final = (
    f"UPDATE {_EVENTS} SET position = %s + waiting.place FROM ({_WAITING}) AS waiting WHERE {_EVENTS}.id = waiting.id"
)
_JOIN: Final = (
    f"UPDATE {_EVENTS} JOIN ({_WAITING}) AS waiting ON {_EVENTS}.id = waiting.id "
    f"SET {_EVENTS}.position = %s + waiting.place"
)
NUMBERING: Final = {"postgresql": _FROM, "sqlite": _FROM, "mysql": _JOIN}
"""The numbering statement by ``connection.vendor``: one round trip for any number of rows."""


class Numbered(NamedTuple):
    """What a run did."""

    head: int
    """The last position given."""
    events: int
    """How many this run gave."""


def sequence() -> Numbered:
    """Number every committed event that has no position.

    Runs in a transaction of its own, or, where the caller has one open, in that. The numbering statement comes after
    the lock as a statement of its own: under READ COMMITTED it then sees all that was committed before.
    """
    connection = connections[settings.DATABASE]
    with transaction.atomic(using=settings.DATABASE, savepoint=False):
        head = log.lock().head
        with connection.cursor() as cursor:
            cursor.execute(NUMBERING[connection.vendor], [head])
            events = cursor.rowcount
        if events:
            head += events
            Head.objects.using(settings.DATABASE).filter(pk=1).update(position=head)
    return Numbered(head, events)
