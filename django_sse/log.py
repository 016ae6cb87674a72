"""The event table and its operations. Every function takes the connection from ``settings.DATABASE``."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Final, NamedTuple

from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.db.models import F, Max

from django_sse.channels import TOKENS, token_owner
from django_sse.conf import settings
from django_sse.models import Event, Head

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper
    from django.db.models import QuerySet

__all__ = [
    "LOCK_TIMEOUT",
    "Reach",
    "Row",
    "after",
    "aget_head",
    "append",
    "cursor_before_last",
    "get_head",
    "lock",
    "positions",
    "reach",
    "rows_after",
    "token_channels",
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


LOCK_TIMEOUT: Final = "5s"
"""How long PostgreSQL waits for us while a transaction of ours holds the lock, before it rolls it back and gives the
lock to another: our machine may vanish."""
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


def _locked(*, wait: bool) -> Reach | None:
    rows = Head.objects.using(settings.DATABASE).filter(pk=1)
    if connections[settings.DATABASE].features.has_select_for_update:
        found = rows.select_for_update(skip_locked=not wait).values_list(*_REACH).first()
    else:
        rows.update(position=F("position"))
        found = rows.values_list(*_REACH).first()
    return Reach(*found) if found else None


def token_channels(owner: str) -> list[str]:
    """Return the channels of the generated texts of the user with this primary key, as far as they have events."""
    named = Event.objects.using(settings.DATABASE).filter(channel__startswith=f"{TOKENS}{owner}.")
    names = named.order_by("channel").values_list("channel", flat=True).distinct()
    return [name for name in names if token_owner(name) == owner]  # databases differ in what they find alike
