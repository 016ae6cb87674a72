"""What a generated text leaves in the log: while it grows its pieces, afterwards one event.

A piece says from which character on its text counts, ``{"at": 12, "text": "..."}``, and a page takes it in so::

    text = text.slice(0, at) + piece

Whole and in order, pieces append. But the rule also takes a piece twice, and a text that begins anew. So the end event
carries the whole text, from character 0. From then on the pieces are of no use, and go: whoever stands before the end
event gets it, and has the whole text, whatever it had; whoever stands behind it had it. It does not matter that some
process still has the pieces in memory and another does not, since nothing of what remains was ever written anew.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from django_sse.conf import settings
from django_sse.models import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "DONE",
    "PIECE",
    "STOP",
    "apply",
    "begins_after",
    "compact",
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


def width(text: str) -> int:
    """The length of ``text`` as JavaScript counts it, in UTF-16 code units."""
    return len(text.encode("utf-16-le")) // 2


def piece(at: int, text: str, **more: Any) -> dict[str, Any]:
    """The data of an event that carries ``text`` from ``at`` on."""
    return {"at": at, "text": text, **more}


def fits(data: dict[str, Any]) -> bool:
    """Tell whether ``data`` can be one event."""
    return len(json.dumps(data, ensure_ascii=False).encode()) <= settings.MAX_EVENT_BYTES


def apply(text: str, data: dict[str, Any]) -> str:
    """Take in the data of a ``token`` or ``done`` event, as a page does; ``at`` counts UTF-16 code units."""
    units = text.encode("utf-16-le")[: 2 * data["at"]]
    return units.decode("utf-16-le") + str(data["text"])


def compact(done: Event, *, whole: bool = True) -> int:
    """Delete what the end event ``done`` leaves without use, and return how many went: that somebody asked to stop, and
    the pieces of the text if it carries that ``whole``."""
    rows = Event.objects.using(settings.DATABASE).filter(channel=done.channel, pk__lt=done.pk)
    earlier = rows.filter(type=DONE).order_by("-pk").values_list("pk", flat=True).first() or 0
    deleted, _ = rows.filter(pk__gt=earlier, type__in=(PIECE, STOP) if whole else (STOP,)).delete()
    return deleted


def stopped(channels: Iterable[str]) -> set[str]:
    """Return those of ``channels`` whose producers were asked to end: one look at an index."""
    rows = Event.objects.using(settings.DATABASE).filter(channel__in=sorted(channels), key=STOP)
    return set(rows.values_list("channel", flat=True))


def begins_after(channel: str) -> int | None:
    """Return the cursor that the newest text of ``channel`` follows, or None where there is none."""
    rows = Event.objects.using(settings.DATABASE).filter(channel=channel, position__isnull=False)
    texts = rows.filter(type__in=(PIECE, DONE))
    newest = texts.order_by("-position").values_list("position", flat=True).first()
    ends = rows.filter(type=DONE, position__lt=newest or 0)  # but for its own, that of the text before it is the last
    before = ends.order_by("-position").values_list("position", flat=True).first() or 0
    first = texts.filter(position__gt=before).order_by("position").values_list("position", flat=True).first()
    return None if first is None else first - 1


def has_ended(channel: str) -> bool:
    """Tell whether the last that was said on ``channel`` is that a text has ended."""
    rows = Event.objects.using(settings.DATABASE).filter(channel=channel)
    return rows.order_by("-pk").values_list("type", flat=True).first() == DONE
