"""The log: one row per event, and one row that says how far it reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from django_sse import wire

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    _TextField = models.TextField[str, str]
else:
    _TextField = models.TextField  # generic in its stubs alone

__all__ = ["Event", "Head", "WireTextField"]

_ESCAPE, _NUL = "\x10", "\x00"


class WireTextField(_TextField):
    """Text of any characters. PostgreSQL refuses NUL in text, the wire does not, so NUL is stored escaped."""

    def get_prep_value(self, value: Any) -> Any:
        value = super().get_prep_value(value)
        if isinstance(value, str):
            return value.replace(_ESCAPE, _ESCAPE + _ESCAPE).replace(_NUL, _ESCAPE + "0")
        return value

    def from_db_value(self, value: str | None, expression: Any, connection: BaseDatabaseWrapper) -> str | None:
        if value is None or _ESCAPE not in value:
            return value
        parts = value.split(_ESCAPE + _ESCAPE)
        return _ESCAPE.join(part.replace(_ESCAPE + "0", _NUL) for part in parts)


class Event(models.Model):
    """One event of the log. ``id`` is the order of insertion; ``position`` that of commit, and the id on the wire."""

    position = models.PositiveBigIntegerField(_("position"), null=True, unique=True, editable=False)
    """Given once the row is committed; NULL until then. Gapless, in commit order, over all channels."""
    channel = models.CharField(_("channel"), max_length=100)
    type = models.CharField(_("type"), max_length=100, default=wire.MESSAGE)
    data = WireTextField(_("data"))
    """The text that goes on the wire."""
    key = models.CharField(_("key"), max_length=200, null=True, editable=False)  # noqa: DJ001 - NULL: not unique
    """What makes a retry of the same publication idempotent within the channel."""
    created_at = models.DateTimeField(_("created at"), db_default=Now(), editable=False, db_index=True)
    """By the clock of the database, so that web servers may disagree."""

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        indexes = [models.Index(fields=["channel", "position"], name="django_sse_channel_position")]
        constraints = [models.UniqueConstraint(fields=["channel", "key"], name="django_sse_channel_key")]

    def __str__(self) -> str:
        return f"{self.position if self.position is not None else 'unnumbered'} {self.channel} {self.type}"

    def encode(self) -> bytes:
        """Return the bytes of this event on the wire. Raises ``InvalidField`` for a row that cannot be an event."""
        return wire.encode(self.data, event=self.type, id=str(self.position))


class Head(models.Model):
    """The one row that says how far the log reaches; whoever numbers or trims holds its lock."""

    position = models.PositiveBigIntegerField(default=0)
    """The last position given."""
    floor = models.PositiveBigIntegerField(default=0)
    """The oldest cursor that replay can still serve: the last position that was trimmed."""
    generation = models.PositiveBigIntegerField(default=0)
    """Counts the times that events were taken out of the middle: whoever holds copies then drops them."""

    class Meta:
        verbose_name = _("head")

    def __str__(self) -> str:
        return f"{self.floor} to {self.position}"
