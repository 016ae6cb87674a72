"""From wherever an event is published, it arrives once, and only if its transaction committed."""

from __future__ import annotations

import pytest

from tests.live.client import connect
from tests.live.conftest import QUICK_POLL, SERVERS
from tests.live.publisher import publisher


@pytest.mark.parametrize("how", ["each", "batch", "atomic", "thread", "async", "signal"])
def test_each_way_to_publish_arrives_once(site, book, how):
    channel = "orders" if how == "signal" else f"public.{how}"
    with connect(site.server, [channel]) as first, connect(site.server, [channel]) as second:
        texts = book.post(site.server, how, [channel] * 3)
        for client in (first, second):
            client.has(*texts).settle()
            assert client.texts == texts
    book.judge(site.database, first, second)


def test_a_management_command_arrives_by_the_poll(site, book):
    with connect(site.server, ["public.command"]) as client:
        made = book.note("public.command")
        site.database.manage("sse_send", made.channel, "status", made.uuid, "--text")
        book.end(made)
        client.has(made.uuid).settle()
        assert client.blocks[-1].type == "status"
    book.judge(site.database, client)


@pytest.mark.parametrize(("how", "kept"), [("rolled-back", 0), ("savepoint", 1)])
def test_what_was_rolled_back_never_arrives(site, book, how, kept):
    with connect(site.server, ["public.a", "public.b"]) as client:
        for _ in range(3):
            book.post(site.server, how, ["public.a", "public.b", "public.a"], kept=kept)
            client.has(*book.post(site.server, "atomic", ["public.b"]))
        client.settle()
        late = connect(site.server, client.log.channels, client.log.arrivals[0].id)
        with late as replayed:
            replayed.has(client.texts[-1]).settle()
    assert client.texts == replayed.texts
    assert len(client.texts) == 3 + 3 * kept
    book.judge(site.database, client, replayed)


@pytest.mark.parametrize("server", SERVERS)
def test_nothing_arrives_before_its_commit(server, database, start, book):
    with (
        start(server, database, POLL_INTERVAL=QUICK_POLL, HEARTBEAT=0.2) as running,
        connect(running, ["public.held"]) as client,
        publisher(database) as other,
    ):
        other.do("begin")
        held = book.note("public.held")
        other.do("send", "public.held", held.uuid)
        # The row is there for its own transaction alone. A look at the log by all readers, then the commit:
        with connect(running, ["public.held"], client.last) as second:
            assert second.last == client.last == database.head()
        assert held.uuid not in database.positions()
        seen = len(client.drain().log.arrivals)
        client.until(lambda: len(client.log.arrivals) >= seen + 2, "two heartbeats")  # of after the look
        assert client.texts == []
        other.do("commit")
        book.end(held)
        client.has(held.uuid).settle()
    book.judge(database, client)


def test_an_event_whose_publisher_died_at_the_commit_arrives(site, book):
    """Between the commit and the numbering the process ends; whoever polls numbers what it left."""
    with connect(site.server, ["public.died"]) as client, publisher(site.database) as other:
        other.do("begin")
        left = book.note("public.died")
        other.do("send", "public.died", left.uuid)
        other.die()
        book.end(left)
        client.has(left.uuid).settle()
    book.judge(site.database, client)
