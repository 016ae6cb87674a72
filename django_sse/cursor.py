"""Where a connection is: reading the position that a client presents, and judging whether it can be served."""

from __future__ import annotations

import re
from typing import Final, Literal

__all__ = ["Cursor", "Malformed", "judge", "parse"]

Malformed = Literal["malformed"]
Cursor = int | Malformed | None
"""A position; ``None``: none was presented, so live only; ``"malformed"``: something that we never gave out."""

_POSITION: Final = re.compile(r"0|[1-9][0-9]{0,18}")


def parse(text: str | None) -> Cursor:
    """Read a last event ID as a cursor. An empty one is none: browsers do not send it (9.2.3)."""
    if not text:
        return None
    return int(text) if _POSITION.fullmatch(text) else "malformed"


def judge(cursor: int | Malformed, floor: int, head: int) -> str | None:
    """Return why ``cursor`` cannot be served exactly from a log that reaches from ``floor`` to ``head``, or None."""
    if cursor == "malformed":
        return "malformed"
    if cursor < floor:
        return "expired"
    return "ahead" if cursor > head else None
