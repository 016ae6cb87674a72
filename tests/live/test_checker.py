"""The judge is judged: each fault, made up, is reported, and nothing else is."""

from __future__ import annotations

import pytest

from tests.checker import Arrival, Connection, Parser, Publication, Received, judge

A, B = frozenset({"a"}), frozenset({"b"})


def published() -> list[Publication]:
    """Five events in commit order, and one that was rolled back."""
    committed = [Publication("ab"[n % 2], f"e{n}", "committed", 10 * n, 10 * n + 5, n) for n in range(1, 6)]
    return [*committed, Publication("a", "never", "rolled back", 33, 34)]


def client(*arrivals: Arrival, presented: int | None = 0, settled: int | None = 99) -> Connection:
    return Connection("c", A | B, presented, list(arrivals), opened=1, settled=settled)


def events(*numbers: int) -> list[Arrival]:
    return [Arrival(n, f"e{n}", tick=100 + n) for n in numbers]


def kinds(connection: Connection, publications: list[Publication] | None = None, trims=()) -> list[str]:
    return [fault.kind for fault in judge(publications or published(), [connection], trims)]


@pytest.mark.parametrize(
    "connection",
    [
        client(*events(1, 2, 3, 4, 5)),
        client(Arrival(0), *events(1, 2), Arrival(2), *events(3, 4, 5), Arrival(5)),
        client(*events(4, 5), presented=3),
        client(Arrival(3), *events(4, 5), presented=None, settled=None),
        client(*events(1, 2), settled=None),
        client(*events(1, 2), settled=25),
        client(presented=5),
    ],
    ids=["all", "with marks", "resumed", "live", "left early", "left before the rest", "nothing due"],
)
def test_a_faultless_log_has_no_faults(connection):
    assert kinds(connection) == []


@pytest.mark.parametrize(
    ("connection", "found"),
    [
        (client(*events(1, 2, 3, 4)), {"lost"}),
        (client(presented=4), {"lost"}),
        (client(Arrival(0), presented=None), {"lost"}),
        (client(presented=None), {"lost"}),
        (
            client(*events(1, 2), Arrival(3, "never"), *events(3, 4, 5)),
            {"phantom", "silent gap", "inversion"},
        ),
        (client(*events(1, 2), Arrival(2, "unheard of"), *events(3, 4, 5)), {"inversion", "phantom"}),
        (client(*events(1, 2, 2, 3, 4, 5)), {"duplicate"}),
        (client(*events(1, 2, 3, 4, 5, 2)), {"inversion", "duplicate"}),
        (client(*events(1, 2, 4, 3, 5)), {"silent gap", "inversion"}),
        (client(*events(1, 2, 4, 5)), {"silent gap"}),
        (client(*events(1, 2), Arrival(5)), {"silent gap"}),
        (client(*events(1), Arrival(0), *events(2, 3, 4, 5)), {"inversion"}),
        (client(*events(1), Arrival(4, reset="expired", tick=9), *events(5)), {"groundless reset"}),
    ],
)
def test_each_fault_is_reported(connection, found):
    assert set(kinds(connection)) == found


def test_a_phantom_at_a_place_of_its_own_is_reported():
    publications = [p for p in published() if p.uuid != "e3"]
    connection = client(*events(1, 2), Arrival(3, "never"), *events(4, 5))
    assert kinds(connection, publications) == ["phantom"]


def test_an_event_of_another_channel_is_a_phantom():
    connection = Connection("c", A, 0, events(1, 2, 4), opened=1)
    assert kinds(connection) == ["phantom"]


def test_an_id_that_the_log_gave_to_another_event_is_an_inversion():
    assert "inversion" in kinds(client(*events(1), Arrival(3, "e2"), *events(4, 5)))


def test_a_reset_after_a_trim_is_a_gap_that_was_said():
    connection = client(Arrival(4, reset="expired", tick=60), *events(5))
    assert kinds(connection, trims=[(55, 3)]) == []
    assert kinds(connection, trims=[(55, 0)]) == ["groundless reset"]
    assert kinds(connection, trims=[(61, 3)]) == ["groundless reset"]


@pytest.mark.parametrize("reason", ["ahead", "malformed", "unreadable"])
def test_a_reset_for_another_reason_has_no_ground(reason):
    assert kinds(client(Arrival(5, reset=reason, tick=60)), trims=[(55, 3)]) == ["groundless reset"]


def test_positions_against_the_order_of_commits_are_an_inversion():
    publications = published()
    publications[1].position, publications[3].position = 4, 2
    assert [fault.kind for fault in judge(publications, [])] == ["inversion", "inversion"]
    publications[1].position = 2
    assert "inversion" in [fault.kind for fault in judge(publications, [])]


def test_transactions_that_overlap_may_be_numbered_either_way():
    publications = [
        Publication("a", "e1", "committed", 1, 9, 2),
        Publication("a", "e2", "committed", 2, 8, 1),
    ]
    assert judge(publications, []) == []


def test_a_numbered_row_of_a_rolled_back_transaction_is_a_phantom():
    publications = published()
    publications[-1] = Publication("a", "never", "rolled back", 70, 75, 6)
    assert [fault.kind for fault in judge(publications, [])] == ["phantom"]


def test_without_positions_the_order_of_commits_judges():
    publications = [Publication("a", f"e{n}", "committed", 10 * n, 10 * n + 5) for n in range(1, 4)]
    assert kinds(client(*events(1, 2, 3)), publications) == []
    assert kinds(client(*events(1, 2)), publications) == ["lost"]
    swapped = [Arrival(1, "e2"), Arrival(2, "e1"), Arrival(3, "e3")]
    assert kinds(client(*swapped), publications) == ["inversion"]


def test_an_unknown_outcome_may_come_or_not():
    publications = [*published(), Publication("a", "perhaps", "unknown", 70, 75)]
    assert kinds(client(*events(1, 2, 3, 4, 5)), publications) == []
    assert kinds(client(*events(1, 2, 3, 4, 5), Arrival(6, "perhaps")), publications) == []


STREAM = (
    b"\xef\xbb\xbfretry: 1200\r\n\r\n: hello\n\nid: 7\n\nid: 8\nevent: status\ndata: one\rdata:two\n"
    b"data:  three\r\n\r\ndata\n\nid: bad\0\nnonsense: 1\ndata: \xc3\xa9\n\nretry: soon\n\nid: 9\ndata: never finished"
)
BLOCKS = [
    Received(None, "", ""),
    Received(None, "", "7"),
    Received("status", "one\ntwo\n three", "8"),
    Received("message", "", "8"),
    Received("message", "é", "8"),
    Received(None, "", "8"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_parser_reads_what_a_browser_reads(size):
    parser = Parser()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert [block for piece in pieces for block in parser.feed(piece)] == BLOCKS
    assert (parser.retry, parser.id) == (1200, "8")
