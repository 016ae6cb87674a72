"""Several processes on one database: what one of them commits, the others find by the poll."""

from __future__ import annotations

import pytest

from tests.live.client import Client, connect
from tests.live.conftest import QUICK_POLL, SERVERS


@pytest.mark.parametrize("server", SERVERS)
def test_an_event_published_by_one_server_arrives_on_the_other(server, database, start, book):
    with (
        start(server, database, POLL_INTERVAL=QUICK_POLL, RING_SIZE=5) as one,
        start(server, database, POLL_INTERVAL=QUICK_POLL, RING_SIZE=5) as other,
        connect(one, ["public.a"], name="on one") as on_one,
        connect(other, ["public.a"], name="on the other") as on_other,
    ):
        for publishing in (one, other, one, other):
            texts = book.post(publishing, "atomic", ["public.a"] * 3)
            on_one.has(*texts)
            on_other.has(*texts)
        on_one.settle()
        on_other.settle()
        assert on_one.texts == on_other.texts
        book.judge(database, on_one, on_other)


@pytest.mark.parametrize("server", SERVERS)
def test_a_client_moves_from_server_to_server(server, database, start, book):
    """The id means the same everywhere, also one that this server has not heard of yet."""
    with (
        start(server, database, POLL_INTERVAL=30, RING_SIZE=5) as one,
        start(server, database, POLL_INTERVAL=30, RING_SIZE=5) as other,
    ):
        clients = [Client(one, ["public.a"]).opened()]
        for here, there in [(one, other), (other, one)] * 3:
            clients[-1].has(*book.post(here, "atomic", ["public.a"] * 3)).vanish()
            missed = book.post(here, "batch", ["public.a"] * 2)
            clients.append(Client(there, ["public.a"], clients[-1].last).opened())
            clients[-1].has(*missed)
        clients[-1].settle().leave()
        assert sum(len(client.texts) for client in clients) == len(book.publications)
        book.judge(database, *clients)


@pytest.mark.parametrize("server", SERVERS)
def test_the_end_of_a_server_costs_nothing_that_was_published(server, database, start, book):
    with start(server, database, POLL_INTERVAL=QUICK_POLL) as survivor:
        with start(server, database) as killed:
            client = Client(killed, ["public.a"]).opened()
            client.has(*book.post(killed, "atomic", ["public.a"] * 3))
        missed = book.post(survivor, "atomic", ["public.a"] * 3)
        client.over()
        assert client.cut
        client.leave()
        with connect(survivor, ["public.a"], client.last) as back:
            back.has(*missed).settle()
            assert back.texts == missed
        book.judge(database, client, back)
