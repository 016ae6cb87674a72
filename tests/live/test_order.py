"""Positions are the order of commits, whatever order the rows were inserted in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from tests.live.client import Client, connect
from tests.live.conftest import QUICK_POLL, SERVERS
from tests.live.publisher import publisher


@pytest.mark.parametrize("server", SERVERS)
def test_transactions_that_commit_against_the_order_of_their_inserts(server, postgresql, start, book):
    """On SQLite there is one writer, so this cannot happen there."""
    with (
        start(server, postgresql, POLL_INTERVAL=QUICK_POLL) as running,
        publisher(postgresql) as early,
        publisher(postgresql) as late,
        connect(running, ["public.a", "public.b"], name="stayed") as stayed,
    ):
        before = postgresql.head()
        early.do("begin")
        inserted_first = book.note("public.a")
        early.do("send", "public.a", inserted_first.uuid)
        late.do("begin")
        inserted_second = book.note("public.b")
        late.do("send", "public.b", inserted_second.uuid)

        late.do("commit")
        book.end(inserted_second)
        stayed.has(inserted_second.uuid)
        between = Client(running, ["public.a", "public.b"], before, name="between").opened()
        between.has(inserted_second.uuid).leave()
        assert between.last == before + 1

        early.do("commit")
        book.end(inserted_first)
        stayed.has(inserted_first.uuid).settle()
        with connect(running, ["public.a", "public.b"], between.last, name="between") as back:
            back.has(inserted_first.uuid).settle()
            assert back.texts == [inserted_first.uuid]
        book.judge(postgresql, stayed, between, back)
    # The note is older than the commit of the other, so the judge alone would allow both orders.
    assert (inserted_second.position, inserted_first.position) == (before + 1, before + 2)


def test_publishers_in_parallel_leave_no_holes(site, book):
    """Eight at once, through views with transactions of several events; some are rolled back."""
    channels = ["public.a", "public.b", "public.c"]
    before = site.database.head()

    def publish(number: int) -> None:
        for round_ in range(6):
            pick = channels[(number + round_) % 3]
            if (number + round_) % 4 == 0:
                book.post(site.server, "savepoint", [pick, "public.a", "public.b"], kept=1)
            else:
                book.post(site.server, ["atomic", "each", "batch"][round_ % 3], [pick, "public.b"])

    with connect(site.server, channels, name="stayed") as stayed, ThreadPoolExecutor(8) as pool:
        list(pool.map(publish, range(8)))
        stayed.has(*book.post(site.server, "each", channels)).settle()
        with connect(site.server, ["public.b"], before, name="replayed") as replayed:
            last = [p.uuid for p in book.publications if p.channel == "public.b"][-1]
            replayed.has(last).settle()
    book.judge(site.database, stayed, replayed)
    positions = sorted(p.position for p in book.publications if p.outcome == "committed")
    assert positions[0] == before + 1
    assert all(two == one + 1 for one, two in pairwise(positions))
