"""What django_sse promises, and the tests that prove it: the rows of docs/guarantees.md."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["PROMISES", "Promise"]


class Promise(NamedTuple):
    text: str
    tests: tuple[str, ...]
    """``file::test`` below tests/; every case of it counts."""
    but: str = ""
    """What of it does not hold yet, or is not tested."""


PROMISES: Final = (
    Promise(
        "An event exists if and only if its transaction committed: with savepoints, in autocommit, in a rolled back "
        "transaction, when the connection is lost at the COMMIT, when the disk is full.",
        (
            "live/test_publish.py::test_what_was_rolled_back_never_arrives",
            "live/test_publish.py::test_nothing_arrives_before_its_commit",
            "live/test_publish.py::test_each_way_to_publish_arrives_once",
            "faults/test_big_run.py::test_random_kills_lose_nothing",
        ),
    ),
    Promise(
        "No interleaving of commits, replay, live delivery and trimming loses an event, repeats it within a connection "
        "or brings it out of commit order, over all channels of a stream.",
        (
            "live/test_order.py::test_a_transaction_that_commits_late_is_delivered_late",
            "live/test_schedules.py::test_random_schedules",
            "live/test_schedules.py::test_random_schedules_on_real_servers",
            "faults/test_big_run.py::test_random_kills_lose_nothing",
        ),
    ),
)
