"""What the Web Platform Tests ask of event streams, turned round: what is published, and what the page must see.

Upstream feeds bytes to a browser (wpt/eventsource/format-*). Here the server is what is tested, so each case of theirs
is the text that has to be published for the page to see what theirs sees, and ``BODIES`` are the bytes that django_sse
itself writes around events. ``tests/browser`` shows the same to a real browser.
"""

from __future__ import annotations

from typing import NamedTuple

from django_sse import wire
from tests.wire.parsers import BOM, SeenEvent

__all__ = ["AWKWARD", "BODIES", "PUBLISHED", "Body", "Published"]


class Published(NamedTuple):
    wpt: str
    type: str | None
    text: str
    seen: tuple[str, str]
    """Type and data of the MessageEvent."""


PUBLISHED = [
    Published("format-field-data", None, "", ("message", "")),
    Published("format-field-data", None, "\n", ("message", "\n")),
    Published("format-field-data", None, "test", ("message", "test")),
    Published("format-newlines", None, "test\r\n\ntest", ("message", "test\n\ntest")),
    Published("format-newlines", None, "test\r\rtest", ("message", "test\n\ntest")),
    Published("format-newlines", None, "test\n\r", ("message", "test\n\n")),
    Published("format-leading-space", None, "\ttest\r \ntest", ("message", "\ttest\n \ntest")),
    Published("format-leading-space", None, "  two", ("message", "  two")),
    Published("format-field-event", "test", "x", ("test", "x")),
    Published("format-field-event", " test", "x", (" test", "x")),
    Published("format-field-event-empty", None, "data", ("message", "data")),
    Published("format-field-event-empty", "message", "data", ("message", "data")),
    Published("format-null-character", None, "\0", ("message", "\0")),
    Published("format-null-character", None, "a\0b\n\0", ("message", "a\0b\n\0")),
    Published(
        "format-field-parsing",
        None,
        "\0\n 2\rData:1\ndata\0:2\n1\r\0data:4\nda-ta:3\rdata_5\n3\r\r\n data:32\n4",
        ("message", "\0\n 2\nData:1\ndata\0:2\n1\n\0data:4\nda-ta:3\ndata_5\n3\n\n data:32\n4"),
    ),
    Published(
        "format-field-unknown",
        None,
        "test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ntest",
        ("message", "test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ntest"),
    ),
    Published("format-comments", None, ":" + "x" * 2048 + "\n:\0", ("message", ":" + "x" * 2048 + "\n:\0")),
    Published("format-field-id", None, "id: 1\n\ndata: 2", ("message", "id: 1\n\ndata: 2")),
    Published("format-field-retry", None, "retry: 1\n", ("message", "retry: 1\n")),
    Published("format-bom", None, "\ufeffdata", ("message", "\ufeffdata")),
    Published("format-utf-8", "ünï", "ok é ✓ \U0001f600 \U0010ffff", ("ünï", "ok é ✓ \U0001f600 \U0010ffff")),
]


class Body(NamedTuple):
    name: str
    body: bytes
    events: list[SeenEvent]
    last_event_id: str
    retry: list[int] = []


_A, _B = wire.encode("a", id="1"), wire.encode("b", event="named", id="2")
_SEEN_A, _SEEN_B = SeenEvent("message", "a", "1"), SeenEvent("named", "b", "2")

BODIES = [
    Body("an id alone moves the last id and fires nothing", wire.mark(7), [], "7"),
    Body(
        "the next event without an id carries it",
        wire.mark(7) + wire.encode("x"),
        [SeenEvent("message", "x", "7")],
        "7",
    ),
    Body("an id alone after an event", _A + wire.mark(70), [_SEEN_A], "70"),
    Body("a reconnection time alone", wire.retry(1234), [], "", [1234]),
    Body("a reconnection time keeps the last id", _A + wire.retry(0), [_SEEN_A], "1", [0]),
    Body("a comment changes nothing", _A + wire.comment() + _B + wire.comment(), [_SEEN_A, _SEEN_B], "2"),
    Body("a type is for one event", _B + wire.encode("c"), [_SEEN_B, SeenEvent("message", "c", "2")], "2"),
    Body("a BOM that a proxy prepends", BOM + _A + _B, [_SEEN_A, _SEEN_B], "2"),
    Body("a BOM before the opening", BOM + wire.retry(5) + wire.mark(7) + _A, [_SEEN_A], "1", [5]),
    Body("a BOM of the data is data", wire.encode("\ufeff"), [SeenEvent("message", "\ufeff", "")], ""),
    Body("empty data is an event", wire.encode("", id="3"), [SeenEvent("message", "", "3")], "3"),
    Body("an ephemeral event has no id", _A + wire.encode("e"), [_SEEN_A, SeenEvent("message", "e", "1")], "1"),
    Body(
        "a reset has an id and a reason",
        _A + wire.reset(9, "ahead"),
        [_SEEN_A, SeenEvent("sse.reset", '{"reason":"ahead","id":9}', "9")],
        "9",
    ),
    *(Body(f"a frame cut at {cut} is dropped", _A + _B[:cut], [_SEEN_A], "1") for cut in range(len(_B))),
]

AWKWARD = [
    *("", " ", "  two", "trailing ", "\ttab", "\n", "\n\n", "a\nb", "a\rb", "a\r\nb", "a\n\rb", "\ra", "a\r", "\r\n"),
    *(
        "\0",
        "a\0b",
        "\x10",
        "\x100",
        "\x10\0\x10",
        "\ufeff",
        "\ufeff\ufeffa",
        "\u2028",
        "a\u2029b",
        "\x85",
        "\x0b\x0c\x1c",
    ),
    *("data: x", ":", ": a comment", "id: 99", "id:\0", "event: forged", "retry: 1", "a\n\nevent: forged\ndata: x"),
    *("data", "é✓", "\U0001f600\U0010ffff", "\ud7ff\ue000\uffff", "e\u0301\u202e", "</script><script>", "'\"`${x}\\"),
    *("null", "[DONE]", "\x1b[31m", "x" * 10_000, "é\n" * 2_000),
]
"""Texts that something on the way from ``send_event`` to the page may be expected to spoil."""
