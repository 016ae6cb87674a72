from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_sse.ring import MEMO_BYTES, WRITE_BYTES, Frame, Ring, join

A, B = frozenset({"a"}), frozenset({"b"})
BOTH = A | B


def frames(*places: tuple[int, str]) -> list[Frame]:
    return [Frame(position, channel, b"%d%s " % (position, channel.encode())) for position, channel in places]


def filled(size: int = 10) -> Ring:
    ring = Ring(size)
    ring.extend(frames((1, "a"), (2, "b"), (3, "a"), (4, "b")), 4)
    return ring


def test_what_follows_a_cursor_comes_in_order_and_moves_the_cursor_to_the_head() -> None:
    assert filled().after(1, BOTH) == (b"2b 3a 4b ", 4)
    assert filled().after(1, A) == (b"3a ", 4)


def test_a_quiet_channel_moves_the_cursor_too() -> None:
    assert filled().after(3, A) == (b"", 4)
    assert filled().after(4, BOTH) == (b"", 4)
    assert filled().after(0, frozenset({"nobody"})) == (b"", 4)


def test_the_oldest_go_first_and_are_out_of_reach() -> None:
    ring = filled(size=2)
    assert ring.floor == 2
    assert not ring.reaches(1)
    assert ring.reaches(2)
    assert ring.reaches(4)
    assert not ring.reaches(5)
    assert ring.after(2, BOTH) == (b"3a 4b ", 4)


def test_a_channel_that_has_left_leaves_nothing_behind() -> None:
    ring = Ring(3)
    for position in range(1, 1001):
        ring.extend(frames((position, f"channel{position}")), position)
    assert len(ring._channels) == 3


def test_streams_at_the_same_place_share_the_bytes() -> None:
    ring = filled()
    assert ring.after(0, BOTH)[0] is ring.after(0, BOTH)[0]
    only = Ring(5)
    only.extend(single := frames((1, "a")), 1)
    assert only.after(0, A)[0] is single[0].data


def test_shared_bytes_are_forgotten_when_more_comes() -> None:
    ring = filled()
    ring.after(0, A)
    ring.extend(frames((5, "a")), 5)
    assert ring.after(0, A) == (b"1a 3a 5a ", 5)


def test_a_write_is_bounded_and_goes_on_where_it_stopped() -> None:
    big = [Frame(position, "a", bytes(20_000)) for position in range(1, 8)]
    ring = Ring(10)
    ring.extend(big, 9)
    sizes, cursor = [], 0
    while cursor < 9:
        data, cursor = ring.after(cursor, A)
        sizes.append(len(data))
    assert sum(sizes) == 140_000
    assert max(sizes) <= WRITE_BYTES


def test_one_frame_larger_than_a_write_goes_alone() -> None:
    huge = Frame(1, "a", bytes(WRITE_BYTES + 1))
    assert join([huge, Frame(2, "a", b"x")], 2) == (huge.data, 1)


def test_joined_writes_are_kept_within_bounds() -> None:
    ring = Ring(2000)
    ring.extend([Frame(position, "a", bytes(10_000)) for position in range(1, 1001)], 1000)
    for cursor in range(1000):
        ring.after(cursor, A)
    assert ring._joined_bytes < 5 * 1024 * 1024
    assert sum(len(data) for data, _ in ring._joined.values()) < 5 * 1024 * 1024


def test_the_names_of_what_is_kept_count_too() -> None:
    """Streams of twenty channels that hold nothing: their keys are all that there is to hold."""
    ring = Ring(10)
    ring.extend([Frame(number, "a", b"x") for number in range(1, 11)], 10)
    most = MEMO_BYTES // (20 * 100)
    for number in range(2 * most):
        ring.after(5, frozenset(f"{number:090}.{one}" for one in range(20)))
        assert len(ring._joined) <= most


def test_cleared_it_stands_at_a_position_and_knows_nothing() -> None:
    ring = filled()
    ring.clear(50)
    assert (ring.floor, ring.head) == (50, 50)
    assert not ring.reaches(4)
    assert ring.after(50, BOTH) == (b"", 50)


@given(
    st.lists(st.sampled_from("abc"), max_size=40),
    st.integers(1, 50),
    st.integers(0, 40),
    st.frozensets(st.sampled_from("abcd")),
)
def test_it_answers_as_a_plain_list_would(channels: list[str], size: int, cursor: int, wanted: frozenset[str]) -> None:
    everything = frames(*enumerate(channels, 1))
    ring = Ring(size)
    for frame in everything:
        ring.extend([frame], frame.position)
    assert ring.reaches(cursor) == (max(0, len(everything) - size) <= cursor <= len(everything))
    if ring.reaches(cursor):
        expected = [frame.data for frame in everything if frame.position > cursor and frame.channel in wanted]
        assert ring.after(cursor, wanted) == (b"".join(expected), len(everything))


@pytest.mark.parametrize("head", [0, 7])
def test_a_new_ring_reaches_only_its_own_position(head: int) -> None:
    ring = Ring(5, head)
    assert ring.reaches(head)
    assert not ring.reaches(head + 1)
