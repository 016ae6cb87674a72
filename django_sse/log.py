"""The event table and its operations. Every function takes the connection from ``settings.DATABASE``."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from django.db import connections, transaction
from django.db.models import F, Max

from django_sse.conf import settings
from django_sse.models import Event, Head

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

__all__ = [
    "Reach",
    "after",
    "append",
    "cursor_before_last",
    "lock",
    "positions",
    "reach",
    "trim",
    "unnumbered",
]


class Reach(NamedTuple):
    """From where (``floor``) to where (``head``) a cursor can be served."""

    floor: int
    head: int


def append(events: Sequence[Event]) -> list[Event]:
    """Insert ``events`` in the caller's transaction, without positions; return them as they are in the log.

    An event whose key the channel already has is not inserted again: the first one comes back in its place.
    """
    rows = Event.objects.using(settings.DATABASE)
    if all(event.key is None for event in events):
        return rows.bulk_create(events)
    rows.bulk_create(events, ignore_conflicts=True)
    return [event if event.key is None else _first(event) for event in events]


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
    row = Head.objects.using(settings.DATABASE).values_list("floor", "position").first()
    return Reach(*row) if row else Reach(0, 0)


def unnumbered() -> bool:
    """Tell whether committed rows wait for their positions."""
    return Event.objects.using(settings.DATABASE).filter(position=None).exists()


def after(cursor: int, channels: Iterable[str] | None, limit: int, upto: int | None = None) -> list[Event]:
    """Return the events that follow ``cursor``, in order: at most ``limit``, none beyond ``upto``.

    ``channels``: those alone; ``None``: all.
    """
    rows = Event.objects.using(settings.DATABASE).filter(position__gt=cursor)
    if upto is not None:
        rows = rows.filter(position__lte=upto)
    if channels is not None:
        rows = rows.filter(channel__in=sorted(channels))
    return list(rows.order_by("position")[:limit])


def cursor_before_last(channels: Iterable[str], count: int) -> int | None:
    """Return the cursor that the last ``count`` events of ``channels`` follow, or None where they have none."""
    rows = Event.objects.using(settings.DATABASE).filter(position__isnull=False, channel__in=sorted(channels))
    last = list(rows.order_by("-position").values_list("position", flat=True)[:count])
    return (last[-1] or 0) - 1 if last else None


def lock() -> Reach:
    """Lock the head until the transaction ends, and return floor and head as they are under the lock.

    On SQLite a lock is a write; elsewhere ``FOR UPDATE`` writes nothing.
    """
    rows = Head.objects.using(settings.DATABASE).filter(pk=1)
    if connections[settings.DATABASE].features.has_select_for_update:
        found = rows.select_for_update().values_list("floor", "position").first()
    else:
        rows.update(position=F("position"))
        found = rows.values_list("floor", "position").first()
    if found:
        return Reach(*found)
    # First use, or a flushed test database: start after whatever the table holds.
    last = Event.objects.using(settings.DATABASE).aggregate(Max("position"))["position__max"] or 0
    Head.objects.using(settings.DATABASE).bulk_create([Head(pk=1, position=last)], ignore_conflicts=True)
    return lock()


def trim(*, before: datetime | None = None, keep: int | None = None, batch: int = 1000) -> int:
    """Delete the oldest events and move the floor past them; return how many went.

    ``before``: those created earlier; ``keep``: all but the last so many positions. At most ``batch`` are deleted in
    one transaction, so that publishers never wait long for the lock.
    """
    deleted = 0
    while True:
        with transaction.atomic(using=settings.DATABASE):
            floor, head = lock()
            old = _oldest(floor, head, before, keep, batch)
            if not old:
                return deleted
            Event.objects.using(settings.DATABASE).filter(position__gt=floor, position__lte=old[-1]).delete()
            Head.objects.using(settings.DATABASE).filter(pk=1).update(floor=old[-1])
        deleted += len(old)


def _oldest(floor: int, head: int, before: datetime | None, keep: int | None, batch: int) -> list[int]:
    rows = Event.objects.using(settings.DATABASE).filter(position__gt=floor).order_by("position")
    positions: list[int] = []
    for position, created_at in rows.values_list("position", "created_at")[:batch]:
        too_old = before is not None and created_at < before
        too_many = keep is not None and position is not None and position <= head - keep
        if position is None or not (too_old or too_many):
            break
        positions.append(position)
    return positions
