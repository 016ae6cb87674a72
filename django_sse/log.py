"""The event table and its operations. Every function takes the connection from ``settings.DATABASE``."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.db.models import F, Max, Q
from django.db.models.functions import Now

from django_sse.channels import TOKENS, token_owner
from django_sse.conf import settings
from django_sse.models import Event, Head

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import timedelta

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import QuerySet

__all__ = [
    "Reach",
    "Row",
    "after",
    "aget_head",
    "append",
    "cursor_before_last",
    "get_head",
    "lock",
    "positions",
    "purge",
    "reach",
    "rebase",
    "rows_after",
    "token_channels",
    "trim",
    "try_lock",
    "unnumbered",
]


class Reach(NamedTuple):
    """From where (``floor``) to where (``head``) a cursor can be served, and which ``generation`` of rows is there."""

    floor: int
    head: int
    generation: int = 0


class Row(NamedTuple):
    """What the wire needs of an event that has its position."""

    position: int
    channel: str
    type: str
    data: str


_EVENTS: Final = Event._meta.db_table
_UNNUMBERED: Final = f"SELECT 1 FROM {_EVENTS} WHERE position IS NULL LIMIT 1"
_INSERT: Final = f"INSERT INTO {_EVENTS} (channel, type, data) VALUES (%s, %s, %s) RETURNING id, created_at"
_DATA: Final = Event._meta.get_field("data")
_REACH: Final = ("floor", "position", "generation")


def append(events: Sequence[Event]) -> list[Event]:
    """Insert ``events`` in the caller's transaction, without positions; return them as they are in the log.

    An event whose key the channel already has is not inserted again: the first one comes back in its place.
    """
    connection = connections[settings.DATABASE]
    if len(events) == 1 and events[0].key is None and connection.vendor == "postgresql":
        return [_insert(events[0], connection)]
    rows = Event.objects.using(settings.DATABASE)
    with transaction.atomic(using=settings.DATABASE, savepoint=False):
        # Apart, since an INSERT that ignores conflicts returns no primary keys; by runs, to keep their order.
        for keyed, run in groupby(events, lambda event: event.key is not None):
            rows.bulk_create(list(run), ignore_conflicts=keyed)
    return [event if event.key is None else _first(event) for event in events]


def _insert(event: Event, connection: BaseDatabaseWrapper) -> Event:
    """What ``bulk_create([event])`` does. The ORM takes twice as long for it, and every publisher waits for that."""
    data = _DATA.get_db_prep_save(event.data, connection)
    with connection.cursor() as cursor:
        cursor.execute(_INSERT, [event.channel, event.type, data])
        event.pk, event.created_at = cursor.fetchone()
    event._state.adding, event._state.db = False, connection.alias
    return event


def _first(event: Event) -> Event:
    rows = Event.objects.using(settings.DATABASE).filter(channel=event.channel, key=event.key)
    # A snapshot of ours may be older than the row we collided with (REPEATABLE READ): a locking read sees it.
    return rows.first() or rows.select_for_update().get()


def positions(events: Sequence[Event]) -> list[int | None]:
    """Return the position of each of ``events`` as the log has it now."""
    rows = Event.objects.using(settings.DATABASE).filter(pk__in=[event.pk for event in events])
    found = dict(rows.values_list("pk", "position"))
    return [found.get(event.pk) for event in events]


def reach() -> Reach:
    """Return floor and head. An empty log reaches from 0 to 0."""
    row = Head.objects.using(settings.DATABASE).values_list(*_REACH).first()
    return Reach(*row) if row else Reach(0, 0)


def get_head() -> int:
    """Return the last position given: the cursor of whoever has seen everything until now.

    A view that reads it before it reads the page's content, and gives it to the tag as ``since=``, misses nothing of
    what happens in between.
    """
    return reach().head


async def aget_head() -> int:
    """``get_head`` for async code."""
    return await sync_to_async(get_head)()


def unnumbered() -> bool:
    """Tell whether committed rows wait for their positions. Each publisher asks, so without the ORM's 0.2 ms."""
    with connections[settings.DATABASE].cursor() as cursor:
        cursor.execute(_UNNUMBERED)
        return cursor.fetchone() is not None


def after(cursor: int, channels: Iterable[str] | None, limit: int, upto: int | None = None) -> list[Event]:
    """Return the events that follow ``cursor``, in order: at most ``limit``, none beyond ``upto``.

    ``channels``: those alone; ``None``: all.
    """
    return list(_following(cursor, channels, limit, upto))


def rows_after(cursor: int, channels: Iterable[str] | None, limit: int, upto: int) -> list[Row]:
    """Return the same as rows, which cost half as much as instances of a model."""
    return list(map(Row._make, _following(cursor, channels, limit, upto).values_list(*Row._fields)))


def _following(cursor: int, channels: Iterable[str] | None, limit: int, upto: int | None) -> QuerySet[Event]:
    rows = Event.objects.using(settings.DATABASE).filter(position__gt=cursor)
    if upto is not None:
        rows = rows.filter(position__lte=upto)
    if channels is not None:
        rows = rows.filter(channel__in=sorted(channels))
    return rows.order_by("position")[:limit]


def cursor_before_last(channels: Iterable[str], count: int) -> int | None:
    """Return the cursor that the last ``count`` events of ``channels`` follow, or None where they have none."""
    rows = Event.objects.using(settings.DATABASE).filter(position__isnull=False, channel__in=sorted(channels))
    last = list(rows.order_by("-position").values_list("position", flat=True)[:count])
    return (last[-1] or 0) - 1 if last else None


def lock() -> Reach:
    """Lock the head until the transaction ends, and return floor and head as they are under the lock.

    On SQLite a lock is a write; elsewhere ``FOR UPDATE`` writes nothing.
    """
    found = _locked(wait=True)
    if found is None:
        # First use, or a flushed test database: start after whatever the table holds.
        last = Event.objects.using(settings.DATABASE).aggregate(Max("position"))["position__max"] or 0
        Head.objects.using(settings.DATABASE).bulk_create([Head(pk=1, position=last)], ignore_conflicts=True)
        return lock()
    return found


def try_lock() -> Reach | None:
    """``lock()`` that does not wait: None where somebody else has the lock."""
    if not connections[settings.DATABASE].features.has_select_for_update_skip_locked:
        return lock()
    return _locked(wait=False) or (None if Head.objects.using(settings.DATABASE).exists() else lock())


@contextmanager
def _holding() -> Iterator[Reach]:
    """Have the lock for a transaction. PostgreSQL takes it from us if we stop, as a machine does that vanishes."""
    connection = connections[settings.DATABASE]
    outermost = not connection.in_atomic_block
    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
        if outermost and connection.vendor == "postgresql":
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = '5s'")
        yield lock()


def _locked(*, wait: bool) -> Reach | None:
    rows = Head.objects.using(settings.DATABASE).filter(pk=1)
    if connections[settings.DATABASE].features.has_select_for_update:
        found = rows.select_for_update(skip_locked=not wait).values_list(*_REACH).first()
    else:
        rows.update(position=F("position"))
        found = rows.values_list(*_REACH).first()
    return Reach(*found) if found else None


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


def token_channels(owner: str) -> list[str]:
    """Return the channels of the generated texts of the user with this primary key, as far as they have events."""
    named = Event.objects.using(settings.DATABASE).filter(channel__startswith=f"{TOKENS}{owner}.")
    names = named.order_by("channel").values_list("channel", flat=True).distinct()
    return [name for name in names if token_owner(name) == owner]  # databases differ in what they find alike


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
    return reach()


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
