"""Text from the log for people to read: nothing in it is hidden, moves other text, or passes for something else."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Final

__all__ = ["excerpt", "lines", "pretty", "visible"]

EXCERPT: Final = 80
"""Characters of an excerpt."""

_NAMES: Final = {"\x00": "NUL", "\t": "TAB", "\n": "LF", "\r": "CR"}


def visible(text: str) -> str:
    """Return ``text`` with every character that has no shape of its own (controls, marks of direction) named."""
    return text if text.isprintable() else "".join(map(_shape, text))


def _shape(character: str) -> str:
    # Quotes that neither JSON nor HTML uses, so that what is named cannot be taken for what is written.
    return character if character.isprintable() else f"«{_NAMES.get(character) or f'U+{ord(character):04X}'}»"


def excerpt(text: str) -> str:
    """Return the beginning of ``text`` on one line."""
    return visible(text[:EXCERPT]) + ("…" if len(text) > EXCERPT else "")


def lines(data: bytes) -> str:
    """Return what is on the wire: each line end is named, and also ends a line."""
    return "«LF»\n".join(map(visible, data.decode().split("\n")))


def pretty(text: str) -> str:
    """Return ``text`` indented where it is JSON."""
    with suppress(ValueError, RecursionError):
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    return "\n".join(map(visible, text.split("\n")))
