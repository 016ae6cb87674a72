"""What the read side asks of the log, as functions for the threads of a gate: each is one visit, and needs no loop."""

from __future__ import annotations

import logging
from typing import Final, NamedTuple

from django.db import DatabaseError

from django_sse import log, wire
from django_sse.control import CONTROL
from django_sse.descriptors import needs_descriptors
from django_sse.exceptions import InvalidField
from django_sse.ring import Frame, join
from django_sse.sequencer import sequence

__all__ = ["PAGE", "Page", "frame", "look", "page"]

logger = logging.getLogger(__name__)

PAGE: Final = 200
"""Rows of one read at the most: a log of any length goes through memory in pages."""


class Page(NamedTuple):
    """A piece of replay: the bytes of so many ``events``, and the ``cursor`` after them."""

    data: bytes
    cursor: int
    events: int


def frame(row: log.Row) -> Frame:
    """Encode one row. A row that cannot be an event becomes a reset that says so: it must not silence the rest."""
    position, channel, type, data = row
    if channel == CONTROL:  # for the wardens, a line each; no client has this channel
        return Frame(position, CONTROL, b"%d %s\n" % (position, b" ".join(data.encode().splitlines())))
    try:
        return Frame(position, channel, wire.encode(data, event=type, id=str(position)))
    except InvalidField:
        logger.error("Event %d of the log cannot be sent: its type holds CR, LF or NUL", position)
        return Frame(position, channel, wire.reset(position, "unreadable"))


@needs_descriptors()
def look(cursor: int | None, heal: bool) -> tuple[log.Reach, list[Frame]]:
    """Return the reach of the log, and the frames of a page of what follows ``cursor``.

    The head is read first: every row up to it was committed with it, so the rows are complete.
    """
    if heal and log.unnumbered():
        _heal()  # their publisher died, or publishes without transactions of Django
    reach = log.reach()
    if cursor is None or not reach.floor <= cursor < reach.head:
        return reach, []
    rows = log.rows_after(cursor, None, PAGE, reach.head)
    if not rows or rows[0].position != cursor + 1:
        # Purged, which leaves holes that are meant; or trimmed since the first look, which the floor now says.
        now = log.reach()
        if now.floor > cursor:
            return now, []
    return reach, [frame(row) for row in rows]


def _heal() -> None:
    try:
        sequence()
    except DatabaseError as error:
        # A database that is read-only, or locked by a long write, can still be read. One that is away says so below.
        logger.warning("Committed events could not be numbered, the next look tries again: %r", error)


@needs_descriptors()
def page(cursor: int, channels: frozenset[str], upto: int, limit: int) -> Page:
    """Return at most ``limit`` events of ``channels`` after ``cursor`` and up to ``upto``.

    Raises ``LookupError`` when the log no longer reaches back to ``cursor``.
    """
    rows = log.rows_after(cursor, channels, limit, upto)
    if log.reach().floor > cursor:  # read after the rows, and moved before one is deleted: none can be missed unseen
        raise LookupError(f"The log no longer reaches back to position {cursor}.")
    frames = [frame(row) for row in rows]
    data, end = join(frames, frames[-1].position if len(frames) == limit else upto)
    return Page(data, end, sum(frame.position <= end for frame in frames))
