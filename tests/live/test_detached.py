"""Streams that have left their request, and the end of a server that holds them."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import psutil
import pytest

from tests.live.client import connect
from tests.live.conftest import QUICK_POLL, SERVERS
from tests.server import wait_for

STREAMS = 20


@pytest.fixture(params=SERVERS)
def server(request):
    return request.param


def test_an_idle_stream_holds_no_thread(server, start, database_of):
    with start(server, database_of("sqlite")) as running, ExitStack() as stack:
        stack.enter_context(connect(running, ["public.a"]))
        process = psutil.Process(running.pid)
        before = process.num_threads()
        for _ in range(STREAMS):
            stack.enter_context(connect(running, ["public.a"]))
        wait_for(lambda: process.num_threads() < before + STREAMS / 2, "the requests give their threads back")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_stop_a_server_ends_its_streams_and_then_itself(server, number, start, database_of):
    with start(server, database_of("sqlite")) as running, ExitStack() as stack:
        clients = [stack.enter_context(connect(running, ["public.a"])) for _ in range(STREAMS)]
        status = running.stop(number)
        assert status in (0, -number, 128 + number), f"{server} ended with {status}"
        assert [client.over().ended for client in clients] == [True] * STREAMS, "bodies were cut, not ended"


def test_without_our_signal_handlers_the_server_does_as_it_likes(start, database_of):
    """The counterpart: uvicorn waits for open streams, so it is still there when its streams are not ended."""
    database = database_of("sqlite")
    with (
        start("uvicorn", database, HANDLE_SIGNALS=False, POLL_INTERVAL=QUICK_POLL) as running,
        ExitStack() as stack,
    ):
        client = stack.enter_context(connect(running, ["public.a"]))
        psutil.Process(running.pid).terminate()
        wait_for(lambda: "Waiting for connections to close" in running.log(), "uvicorn waits")
        database.manage("sse_send", "public.a", "message", "still", "--text")
        client.has("still")
