"""A connection that ended, however it ended, goes on where it was."""

from __future__ import annotations

import pytest

from tests.live.client import Client, connect
from tests.live.conftest import SERVERS

ENDS = 20


@pytest.mark.parametrize("how", ["leave", "vanish"])
@pytest.mark.parametrize("missed", [1, 3, 40], ids=lambda count: f"{count} missed")
def test_a_reconnect_gets_exactly_what_was_missed(site, book, how, missed):
    channels = ["public.a", "public.b"]
    client = Client(site.server, channels).opened()
    client.has(*book.post(site.server, "each", ["public.a", "public.b"]))
    getattr(client, how)()
    book.post(site.server, "each", ["public.c"])
    texts = book.post(site.server, "batch", [channels[n % 2] for n in range(missed)])
    with connect(site.server, channels, client.last) as back:
        back.has(texts[-1])
        texts += book.post(site.server, "each", ["public.a"])
        back.has(texts[-1]).settle()
        assert back.texts == texts
    book.judge(site.database, client, back)


def test_a_first_connection_starts_where_the_page_was_rendered(site, book):
    rendered = site.database.head()
    texts = book.post(site.server, "batch", ["public.page"] * 8)
    with connect(site.server, ["public.page"], rendered, by="since") as client:
        client.has(*texts).settle()
    with connect(site.server, ["public.page"]) as live:
        texts += book.post(site.server, "each", ["public.page"])
        live.has(texts[-1]).settle()
        assert live.texts == texts[-1:]
    book.judge(site.database, client, live)


def test_clients_that_come_and_go_while_events_flow_lose_nothing(site, book):
    clients = [Client(site.server, ["public.flow"], name="client 0").opened()]
    for round_ in range(30):
        texts = book.post(site.server, "each", ["public.flow"] * 2)
        clients[-1].has(texts[0])
        getattr(clients[-1], "vanish" if round_ % 3 else "leave")()
        book.post(site.server, "batch", ["public.flow"] * (round_ % 8))
        clients.append(Client(site.server, ["public.flow"], clients[-1].last, name=f"client {round_ + 1}").opened())
    clients[-1].has(*book.post(site.server, "each", ["public.flow"])).settle().leave()
    assert sum(len(client.texts) for client in clients) == len(book.publications)
    book.judge(site.database, *clients)


@pytest.mark.parametrize("server", SERVERS)
def test_a_stream_that_is_old_enough_ends_cleanly_and_loses_nothing(server, database, start, book):
    with start(server, database, MAX_AGE=0.2, RING_SIZE=5) as running:
        clients = [Client(running, ["public.old"]).opened()]
        for _ in range(ENDS):
            book.post(running, "each", ["public.old"])
            clients[-1].over()
            assert clients[-1].ended, "cut, not ended"
            clients[-1].leave()
            book.post(running, "each", ["public.old"] * 2)
            clients.append(Client(running, ["public.old"], clients[-1].last).opened())
        last = book.publications[-1].uuid
        while last not in clients[-1].texts:
            clients[-1].until(lambda: last in clients[-1].texts or clients[-1].ended, "the last event arrives")
            if last not in clients[-1].texts:
                clients.append(Client(running, ["public.old"], clients[-1].last).opened())
        clients[-1].settle().leave()
        assert sum(len(client.texts) for client in clients) == len(book.publications)
        book.judge(database, *clients)
