"""What open streams cost the database, and what its failures cost them. On PostgreSQL, which tells who is connected."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tests.live.client import Client, connect
from tests.live.conftest import QUICK_POLL, SERVERS
from tests.server import wait_for

STREAMS = 20
BACKENDS = 3
"""The hub's own, and at most two that a request is just giving back."""


def backends(database, application: str) -> int:
    return len(database.query(f"SELECT pid FROM pg_stat_activity WHERE application_name = '{application}'"))


def terminate(database, application: str) -> int:
    query = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{application}'"
    return len(database.query(query))


@pytest.mark.parametrize("server", SERVERS)
def test_idle_streams_hold_no_database_connections(server, postgresql, start, book):
    with ExitStack() as stack:
        running = stack.enter_context(start(server, postgresql, env={"PGAPPNAME": f"idle-{server}"}))
        # Each was authorised by a query of its own thread, see views.authorize.
        clients = [stack.enter_context(connect(running, ["public.a"])) for _ in range(STREAMS)]
        assert backends(postgresql, f"idle-{server}") >= 1, "nobody is counted under this name"
        wait_for(
            lambda: backends(postgresql, f"idle-{server}") <= BACKENDS,
            f"at most {BACKENDS} backends for {STREAMS} streams",
        )
        texts = book.post(running, "atomic", ["public.a"])
        for client in clients:
            client.has(*texts).settle()
        wait_for(
            lambda: backends(postgresql, f"idle-{server}") <= BACKENDS,
            f"at most {BACKENDS} backends after a delivery",
        )
        book.judge(postgresql, *clients)


@pytest.mark.parametrize("server", SERVERS)
def test_streams_outlive_the_loss_of_their_database_connections(server, postgresql, start, book):
    name = f"lost-{server}"
    # Requests that the loss hits may say so.
    with (
        start(server, postgresql, env={"PGAPPNAME": name}, POLL_INTERVAL=QUICK_POLL, tracebacks=True) as running,
        start(server, postgresql) as publishing,
        connect(running, ["public.a"]) as first,
        connect(running, ["public.a"]) as second,
    ):
        for _ in range(5):
            assert terminate(postgresql, name) >= 1
            texts = book.post(publishing, "atomic", ["public.a"] * 2)
            first.has(*texts)
            second.has(*texts)
        first.settle()
        second.settle()
        book.judge(postgresql, first, second)


@pytest.mark.parametrize("server", SERVERS)
def test_a_replay_that_loses_its_connection_loses_nothing(server, postgresql, start, book):
    """It ends so that the client asks again with the last id that it has."""
    name = f"replay-{server}"
    waiting = f"""SELECT pid FROM pg_stat_activity
        WHERE application_name = '{name}' AND wait_event_type = 'Lock' AND query LIKE '%django_sse_event%'"""
    with start(server, postgresql, env={"PGAPPNAME": name}, RING_SIZE=5, POLL_INTERVAL=60) as running:
        before = postgresql.head()
        texts = book.post(running, "batch", ["public.a"] * 30)
        with connect(running, ["public.b"]), postgresql.connect() as locking:
            # The hub has started and does not poll: of all the server only the replay asks for the rows.
            with locking.transaction():
                locking.execute("LOCK TABLE django_sse_event IN ACCESS EXCLUSIVE MODE")
                cut = Client(running, ["public.a"], before).opened()
                wait_for(lambda: postgresql.query(waiting), "the replay waits for the lock")
                postgresql.query(f"SELECT pg_terminate_backend(pid) FROM ({waiting}) AS waiting")
                cut.over()
            assert cut.ended, "cut, not ended"
            assert cut.texts == []
            assert cut.body.count(b"retry: ") == 2
            cut.leave()
            with connect(running, ["public.a"], cut.last) as back:
                back.has(*texts).settle()
        book.judge(postgresql, cut, back)


@pytest.mark.parametrize("server", SERVERS)
def test_without_a_database_the_browser_is_asked_to_come_back(server, postgresql, start, book):
    """An error status would end an EventSource for good."""
    with start(server, postgresql, env={"PGPORT": "1"}, tracebacks=True) as running:
        status, headers, body = running.request("GET", "/fixed/")
        assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert body.startswith(b"retry: ")
        assert b"id:" not in body
