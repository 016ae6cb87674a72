"""What people may publish, and what somebody may try to publish."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

__all__ = ["CONTENTS", "EXAMPLES", "HOSTILE", "JSON", "TEXTS", "TYPES"]

EXAMPLES = settings(
    max_examples=400 if os.environ.get("CI") else 80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# What means something to a parser, to the column (U+0010 escapes NUL there) or to a careless splitter of lines.
_PIECES = st.sampled_from(
    [
        *(
            "\r",
            "\n",
            "\r\n",
            "\n\n",
            "\r\r",
            "\n\r",
            "\0",
            "\x10",
            "\x100",
            "\x10\x10",
            "0",
            "\ufeff",
            "\u2028",
            "\u2029",
        ),
        *("\x85", "\x0b", "\x0c", "\x1c", " ", "  ", "\t", ":", ": ", ": a comment", "data", "data:", "data: forged"),
        *("event: forged", "id", "id: 99", "id: \0", "retry: 1", "sse.reset", "message", "null", "é✓", "\U0001f600"),
        *("\ud7ff", "\ue000", "\ufffd", "\uffff", "\U0010ffff", "e\u0301", "\u202e", "\x7f", "\x1b[31m"),
    ]
)
_CHARACTERS = st.characters(exclude_categories=["Cs"])
HOSTILE = st.lists(_PIECES | st.text(_CHARACTERS, max_size=8), max_size=10).map("".join)
"""Text of every character, made of the pieces that hurt."""
TEXTS = HOSTILE | st.text(_CHARACTERS)

_NAMES = st.lists(
    _PIECES | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), min_size=1, max_size=8),
    min_size=1,
    max_size=6,
)
TYPES = st.none() | _NAMES.map(lambda parts: "".join(parts).translate({0: "", 10: "", 13: ""})[:100]).filter(
    lambda name: name and name not in ("error", "open") and not name.startswith("sse.")
)
"""Every legal event type."""

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
CONTENTS = st.fixed_dictionaries({"text": TEXTS}) | st.fixed_dictionaries({"data": JSON})
"""What goes into an event: one argument of ``send_event``."""
