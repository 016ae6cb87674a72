"""The parser of the test kit against the cases of the standard; the kit's own promises."""

from __future__ import annotations

import pytest
from django.test import AsyncClient

from django_sse import wire
from django_sse.testing import Parser, ReceivedEvent, listen

CASES = [
    (b"data: a\n\n", [("message", "a", "")]),
    (b"data:a\r\rdata: b\r\n\r\n", [("message", "a", ""), ("message", "b", "")]),
    (b"\xef\xbb\xbfdata: a\n\n", [("message", "a", "")]),
    (b"data:  a\n\n", [("message", " a", "")]),
    (b"data\n\n", [("message", "", "")]),
    (b"data: a\ndata\ndata: b\n\n", [("message", "a\n\nb", "")]),
    (b"event: x\ndata: a\n\ndata: b\n\n", [("x", "a", ""), ("message", "b", "")]),
    (b"event: x\n\ndata: b\n\n", [("message", "b", "")]),
    (b"id: 7\n\ndata: a\n\n", [("message", "a", "7")]),
    (b"id: 7\ndata: a\n\nid\ndata: b\n\n", [("message", "a", "7"), ("message", "b", "")]),
    (b"id: 7\ndata: a\n\nid: 8\x00\ndata: b\n\n", [("message", "a", "7"), ("message", "b", "7")]),
    (b": comment\ndata: a\nunknown: b\n\n", [("message", "a", "")]),
    (b"data: cut", []),
    (b"data: cut\n", []),
    (b"data: \xff\n\n", [("message", "\ufffd", "")]),
    (b"Data: a\n\n", []),
]


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize(("stream", "expected"), CASES)
def test_it_reads_as_a_browser_does(stream: bytes, expected: list[tuple[str, str, str]], size: int) -> None:
    parser = Parser()
    found = [event for at in range(0, len(stream), size) for event in parser.feed(stream[at : at + size])]
    assert found == [ReceivedEvent(*event) for event in expected]


@pytest.mark.parametrize(
    ("field", "milliseconds"),
    [(b"7", 7), (b"-7", None), (b"7.5", None), (b"", None), ("\u0667".encode(), None), (b"9" * 5000, None)],
)
def test_retry_is_ascii_digits(field: bytes, milliseconds: int | None) -> None:
    parser = Parser()
    assert parser.feed(b"retry: " + field + b"\n\n") == []
    assert parser.retry == milliseconds


def test_what_we_write_besides_events_fires_nothing() -> None:
    parser = Parser()
    assert parser.feed(wire.comment() + wire.mark(41) + wire.retry(2000)) == []
    assert (parser.last_event_id, parser.retry) == ("41", 2000)


@pytest.mark.django_db(transaction=True)
async def test_listen_refuses_what_is_no_stream() -> None:
    with pytest.raises(AssertionError, match="answered 403"):
        async with listen(AsyncClient(), "/events/?channel=secret"):
            pass
