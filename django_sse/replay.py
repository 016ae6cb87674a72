"""The question of support: what would a client at this id, with these channels, be sent?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from django_sse import log, wire
from django_sse.channels import check_channel
from django_sse.conf import settings
from django_sse.cursor import judge
from django_sse.exceptions import InvalidChannel, InvalidField
from django_sse.readable import excerpt, lines, visible

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_sse.cursor import Cursor
    from django_sse.models import Event

__all__ = ["Answer", "ReplayForm", "replay"]

REPLAYED: Final = 50
"""Events that the answer to "what would a client receive" shows."""
REASONS: Final = {
    "expired": _("the log was trimmed past this id, so what followed it is gone"),
    "ahead": _("the log has not reached this id: the client saw another log, or this one was restored from a backup"),
    "malformed": _("this is not an id that a stream gave out"),
}


class ReplayForm(forms.Form):
    """Asks where a client is."""

    at = forms.CharField(
        label=_("Last event ID"),
        required=False,
        max_length=100,
        help_text=_("The id that the browser presents. Leave it empty for a client that connects for the first time."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    channels = forms.CharField(
        label=_("Channels"),
        max_length=10_000,
        help_text=_("Separated by commas. Whether a user may read them is not asked here."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )

    def clean_channels(self) -> list[str]:
        names = {name.strip() for name in self.cleaned_data["channels"].split(",")} - {""}
        if not names:
            raise ValidationError(_("Name a channel."))
        if len(names) > settings.MAX_CHANNELS:
            raise ValidationError(
                _("A stream has at most %(limit)d channels."), params={"limit": settings.MAX_CHANNELS}
            )
        for name in names:
            try:
                check_channel(name)
            except InvalidChannel as error:
                complaint = _("“%(name)s” is not a channel name: 1 to 100 of A-Z a-z 0-9 . _ ~ -")
                raise ValidationError(complaint, params={"name": visible(name[:120])}) from error
        return sorted(names)


class Answer(NamedTuple):
    """What a client is sent: from ``start`` on, after a reset for ``reason``, the ``rows``; and ``more`` than those."""

    start: int
    fresh: bool = False
    reason: str | None = None
    explanation: str = ""
    reset: str = ""
    rows: tuple[tuple[Event, str, str], ...] = ()
    more: bool = False


def replay(cursor: Cursor, channels: Iterable[str]) -> Answer:
    """Tell what a client at ``cursor`` with these ``channels`` would be sent if it came now."""
    reach = log.reach()
    if cursor is None:
        return Answer(reach.head, fresh=True)
    reason = judge(cursor, reach.floor, reach.head)
    rows: list[Event] = []
    if isinstance(cursor, int) and not reason:
        rows = log.after(cursor, channels, REPLAYED + 1, reach.head)
        if log.reach().floor > cursor:  # read after the rows: none of them can have been trimmed unseen
            reason = "expired"
    if reason or not isinstance(cursor, int):
        reset = lines(wire.reset(reach.head, reason or "malformed"))
        return Answer(reach.head, reason=reason, explanation=str(REASONS[reason or "malformed"]), reset=reset)
    shown = tuple((row, _type(row), excerpt(row.data)) for row in rows[:REPLAYED])
    return Answer(cursor, rows=shown, more=len(rows) > REPLAYED)


def _type(event: Event) -> str:
    """Return the type under which ``event`` arrives."""
    try:
        event.encode()
    except InvalidField:
        return "sse.reset (unreadable)"
    return visible(event.type)
