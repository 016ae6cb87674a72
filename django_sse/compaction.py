"""What a generated text leaves in the log: while it grows its pieces, afterwards one event.

A piece says from which character on its text counts, ``{"at": 12, "text": "..."}``, and a page takes it in so::

    text = text.slice(0, at) + piece

Whole and in order, pieces append. But the rule also takes a piece twice, and a text that begins anew. So the end event,
which as it is written adds nothing, can be rewritten to carry the whole text from character 0, and the pieces before it
be deleted: a reader anywhere in the middle, whose position is below that of the end event, receives that one and has
the whole text, whatever it had; a reader behind it is not concerned. No copy of an old row does harm, in the memory of
any process: what a reader gets after it is the end event, old or new, and both are right for it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction

from django_sse.conf import settings
from django_sse.models import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DONE",
    "LONGEST",
    "PIECE",
    "STOP",
    "apply",
    "compact",
    "first_position",
    "has_ended",
    "piece",
    "stopped",
    "width",
]

PIECE: Final = "token"
"""The type of an event that carries text."""
DONE: Final = "done"
"""The type of the end event."""
STOP: Final = "stop"
"""The type, and the key, of the event that asks a producer to end."""
LONGEST: Final = 1024 * 1024
"""Bytes of a text that is compacted. One event goes out in one write: what is longer stays in pieces."""


def width(text: str) -> int:
    """The length of ``text`` as JavaScript counts it, in UTF-16 code units."""
    return len(text.encode("utf-16-le")) // 2


def piece(at: int, text: str, **more: Any) -> dict[str, Any]:
    """The data of an event that carries ``text`` from ``at`` on."""
    return {"at": at, "text": text, **more}


def apply(text: str, data: dict[str, Any]) -> str:
    """Take in the data of a ``token`` or ``done`` event, as a page does; ``at`` counts UTF-16 code units."""
    units = text.encode("utf-16-le")[: 2 * data["at"]]
    return units.decode("utf-16-le") + str(data["text"])


def compact(done: Event, text: str, reason: str) -> int:
    """Put the whole ``text`` into the end event ``done`` and delete the pieces before it; return how many went."""
    data = json.dumps(piece(0, text, reason=reason), ensure_ascii=False, separators=(",", ":"))
    if len(data.encode()) > LONGEST:
        return 0
    with transaction.atomic(using=settings.DATABASE):
        rows = Event.objects.using(settings.DATABASE).filter(channel=done.channel, pk__lt=done.pk)
        earlier = rows.filter(type=DONE).order_by("-pk").values_list("pk", flat=True).first() or 0
        Event.objects.using(settings.DATABASE).filter(pk=done.pk).update(data=data)
        deleted, _ = rows.filter(pk__gt=earlier, type__in=(PIECE, STOP)).delete()
    return deleted


def stopped(channels: Iterable[str]) -> set[str]:
    """Return those of ``channels`` whose producers were asked to end: one look at an index."""
    rows = Event.objects.using(settings.DATABASE).filter(channel__in=sorted(channels), key=STOP)
    return set(rows.values_list("channel", flat=True))


def first_position(channel: str) -> int | None:
    """Return the position of the oldest event of ``channel``, or None where it has none."""
    rows = Event.objects.using(settings.DATABASE).filter(channel=channel, position__isnull=False)
    return rows.order_by("position").values_list("position", flat=True).first()


def has_ended(channel: str) -> bool:
    """Tell whether the last that was said on ``channel`` is that a text has ended."""
    rows = Event.objects.using(settings.DATABASE).filter(channel=channel)
    return rows.order_by("-pk").values_list("type", flat=True).first() == DONE
