"""Characters that come in two halves. No Django in here.

Some models stream a character beyond U+FFFF as the two surrogates that UTF-16 has for it, a token each. UTF-8 can write
neither of them alone.
"""

from __future__ import annotations

__all__ = ["REPLACEMENT", "join", "split"]

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
"""What stands for half of a character whose other half never came."""


def join(text: str) -> str:
    """Return ``text`` with the halves of characters joined, and those replaced that have no other half."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def split(text: str) -> tuple[str, str]:
    """Return ``text``, joined, without, and separately, the first half of a character at its end."""
    rest = text[-1:] if "\ud800" <= text[-1:] <= "\udbff" else ""
    return join(text[: len(text) - len(rest)]), rest
