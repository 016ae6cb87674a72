"""Give positions to committed events, gaplessly and in commit order.

An auto-increment key is taken at insertion, so it is not commit order, and a reader that asks for "id > last" loses
the event of a transaction that commits late. Positions are therefore given after commit, under the head's lock, to
every committed row that has none: whoever gets the lock numbers everybody's. Running it twice does nothing, and a
process that dies before it is healed by the next run, from any process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from django.db import connections, transaction

from django_sse import log
from django_sse.conf import settings
from django_sse.models import Event, Head

if TYPE_CHECKING:
    from django.db.backends.utils import CursorWrapper

__all__ = ["NUMBERING", "Numbered", "sequence"]

_EVENTS: Final = Event._meta.db_table
_WAITING: Final = f"SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS place FROM {_EVENTS} WHERE position IS NULL"
_NUMBER: Final = (
    f"UPDATE {_EVENTS} SET position = %s + waiting.place FROM ({_WAITING}) AS waiting WHERE {_EVENTS}.id = waiting.id"
)
_CHUNK: Final = 500


def _number(cursor: CursorWrapper, head: int) -> int:
    cursor.execute(_NUMBER, [head])
    return int(cursor.rowcount)


def _number_on_mysql(cursor: CursorWrapper, head: int) -> int:
    """An UPDATE of InnoDB waits for the uncommitted rows it meets, so for every transaction that has published and is
    still open. A plain SELECT does not see them: find the rows first, then update those and no others."""
    cursor.execute(f"SELECT id FROM {_EVENTS} WHERE position IS NULL ORDER BY id")
    ids = [row[0] for row in cursor.fetchall()]
    for start in range(0, len(ids), _CHUNK):
        chunk = ids[start : start + _CHUNK]
        marks = ", ".join(["%s"] * len(chunk))
        cursor.execute(
            f"UPDATE {_EVENTS} SET position = %s + FIELD(id, {marks}) WHERE id IN ({marks})",
            [head + start, *chunk, *chunk],
        )
    return len(ids)


NUMBERING: Final = {"postgresql": _number, "sqlite": _number, "mysql": _number_on_mysql}
"""By ``connection.vendor``: what gives the committed rows their positions after ``head``, and returns how many."""


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
            events = NUMBERING[connection.vendor](cursor, head)
        if events:
            head += events
            Head.objects.using(settings.DATABASE).filter(pk=1).update(position=head)
    return Numbered(head, events)
