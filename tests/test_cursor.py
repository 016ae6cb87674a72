from __future__ import annotations

import pytest

from django_sse.cursor import judge, parse


@pytest.mark.parametrize("text", [None, ""])
def test_nothing_presented_is_no_cursor(text: str | None) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(("text", "position"), [("0", 0), ("41", 41), ("9223372036854775807", 2**63 - 1)])
def test_a_position_is_plain_digits(text: str, position: int) -> None:
    assert parse(text) == position


@pytest.mark.parametrize(
    "text",
    ["-1", "+1", "1.0", " 1", "1 ", "1\n", "007", "1,2", "0x1", "1e3", "٤١", "²", "\x00", "abc", "9" * 20, "9" * 6000],
)
def test_what_we_never_gave_out_is_malformed(text: str) -> None:
    assert parse(text) == "malformed"


@pytest.mark.parametrize(
    ("cursor", "reason"),
    [(9, "expired"), (10, None), (15, None), (20, None), (21, "ahead"), ("malformed", "malformed")],
)
def test_a_log_from_10_to_20_serves_exactly_that(cursor: int, reason: str | None) -> None:
    assert judge(cursor, 10, 20) == reason
