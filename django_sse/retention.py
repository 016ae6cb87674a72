"""What is kept of the log: what goes by ``settings.RETENTION`` and by hand, and where it goes on after a restore."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from django.db import connections, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from django_sse import log
from django_sse.conf import settings
from django_sse.models import Event, Head

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from django_sse.log import Reach

__all__ = ["apply", "purge", "rebase", "trim"]

_EVENTS: Final = Event._meta.db_table


def apply() -> int:
    """Trim the log to ``settings.RETENTION``; return how many events went. Safe at any time, from any process."""
    retention = settings.RETENTION
    return trim(older_than=retention.get("MAX_AGE"), keep=retention.get("MAX_EVENTS"))


def trim(*, older_than: timedelta | None = None, keep: int | None = None, batch: int = 1000) -> int:
    """Move the floor past the oldest events and delete what is behind it; return how many events went.

    ``older_than``: those created longer ago, by the database's clock, up to the first that was not; ``keep``: all but
    the last so many positions. At most ``batch`` are looked at under the lock, and deleted in one statement without it,
    so that publishers never wait long. A client that still replays what goes is told by ``sse.reset``.
    """
    deleted, swept = 0, -1  # from the bottom: a rebase, or a process that died here, may have left rows
    while True:
        with _holding() as (floor, head, _):
            old = _oldest(floor, head, older_than, keep, batch)
            if old:
                floor = old[-1]
                Head.objects.using(settings.DATABASE).filter(pk=1).update(floor=floor)
        # Only once the floor is committed: a reader that misses rows then finds it beyond its cursor. And without the
        # lock: in InnoDB a row may wait for a transaction that has published, and numbering would wait with it.
        deleted += _delete(Q(position__gt=swept, position__lte=floor), "position", batch)
        swept = floor
        if len(old) < batch:  # caught up, for publishers may be as fast as we are
            return deleted


def purge(*channels: str) -> int:
    """Delete every event of ``channels``, for good, and return how many there were. What is committed later stays.

    The holes are no loss to anybody: only those who may read the channels could have received them. Running processes
    drop their copies with their next look at the log, within ``POLL_INTERVAL``.
    """
    deleted = _delete(Q(channel__in=channels), "pk")
    with _holding():
        # After the last row has gone: who has seen this generation cannot have read one of them since.
        Head.objects.using(settings.DATABASE).filter(pk=1).update(generation=F("generation") + 1)
    return deleted


def rebase(position: int) -> Reach:
    """Go on from ``position``, which must be beyond the head, and serve no older cursor; return the new reach.

    After a restored backup or a failover that lost transactions, the database gives the positions out again that
    browsers already hold as ids of other events. Beyond all of those, every old id is ``expired`` and is told so.
    Raises ``ValueError`` for a position that is not beyond the head.
    """
    with _holding() as (_, head, _):
        if position <= head:
            raise ValueError(f"Position {position} is not beyond the head, which is {head}.")
        Head.objects.using(settings.DATABASE).filter(pk=1).update(position=position, floor=position)
    return log.reach()


@contextmanager
def _holding() -> Iterator[Reach]:
    """Have the lock for a transaction. PostgreSQL takes it from us if we stop, as a machine does that vanishes."""
    connection = connections[settings.DATABASE]
    outermost = not connection.in_atomic_block
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        if outermost and connection.vendor == "postgresql":
            cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = '{log.LOCK_TIMEOUT}'")
        yield log.lock()


def _oldest(floor: int, head: int, older_than: timedelta | None, keep: int | None, batch: int) -> list[int]:
    rows = Event.objects.using(settings.DATABASE).filter(position__gt=floor).order_by("position")
    rows = rows.annotate(now=Now())
    positions: list[int] = []
    for position, created_at, now in rows.values_list("position", "created_at", "now")[:batch]:
        too_old = older_than is not None and created_at < now - older_than
        too_many = keep is not None and position is not None and position <= head - keep
        if position is None or not (too_old or too_many):
            break
        positions.append(position)
    return positions


def _delete(which: Q, order: str, batch: int = 1000) -> int:
    """Delete the committed rows that are ``which``, the first in ``order`` first; return how many there were.

    In the order of position, a reader that finds the first row after its cursor finds all that follow.
    """
    events = Event.objects.using(settings.DATABASE)
    deleted, last = 0, -1
    rows = events.filter(which).order_by(order).values_list("pk", order)
    while found := list(rows.filter(**{f"{order}__gt": last})[:batch]):
        deleted += _delete_rows([pk for pk, _ in found])
        last = found[-1][1]
    return deleted


def _delete_rows(pks: Sequence[int]) -> int:
    connection = connections[settings.DATABASE]
    if connection.vendor != "mysql":
        return Event.objects.using(connection.alias).filter(pk__in=pks).delete()[0]
    # A DELETE of InnoDB that scans the table waits for the uncommitted rows that it meets, and without a LIMIT it scans
    # even for primary keys where they are a good part of the table. A LIMIT below the number of rows forbids that.
    marks = ", ".join(["%s"] * len(pks))
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {_EVENTS} WHERE id IN ({marks}) ORDER BY id LIMIT %s", [*pks, len(pks)])
        deleted: int = cursor.rowcount
    return deleted
