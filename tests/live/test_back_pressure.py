"""Clients that open a stream and then read nothing."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import psutil
import pytest

from tests.live.client import connect
from tests.live.conftest import QUICK_POLL
from tests.server import wait_for

STALLED = 10
TEXT = "x" * 60_000
EVENTS = 300
"""18 MB for each client: more than the buffers of both kernels take, by far."""


@pytest.fixture(params=["uvicorn", "daphne", "granian", "hypercorn"])
def server(request):
    return request.param


def stall(running, stack):
    one = stack.enter_context(socket.socket())
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect(("127.0.0.1", running.port))
    one.sendall(b"GET /events/?channel=public.a HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n")
    one.settimeout(30)
    assert one.recv(12) == b"HTTP/1.1 200"
    return one


def memory(running):
    process = psutil.Process(running.pid)
    return sum(one.memory_full_info().uss for one in [process, *process.children(recursive=True)])


def connections(running):
    found = psutil.Process(running.pid).net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr.port == running.port for one in found)


def publish(database, first, count):
    values = ", ".join(f"('public.a', 'message', '{number:05d}{TEXT}')" for number in range(first, first + count))
    connection = database.connect()
    try:
        connection.cursor().execute(f"INSERT INTO django_sse_event (channel, type, data) VALUES {values}")
        connection.commit()
    finally:
        connection.close()


def test_who_reads_nothing_costs_little_and_is_cut_off(server, start, database_of):
    """Here a bound of 1.5 MB a client is asserted, of 18 MB published; see docs/deployment.md for what was measured."""
    database = database_of("postgresql")
    sse = {"RING_SIZE": 5, "POLL_INTERVAL": QUICK_POLL, "WRITE_TIMEOUT": 5, "HEARTBEAT": 1}
    with start(server, database, **sse) as running, ExitStack() as stack:
        reader = stack.enter_context(connect(running, ["public.a"]))
        publish(database, 0, 30)
        reader.until(lambda: len(reader.texts) == 30, "the reader has the first events")
        before = memory(running)
        stalled = [stall(running, stack) for _ in range(STALLED)]
        most = 0
        for first in range(30, 30 + EVENTS, 30):
            publish(database, first, 30)
            reader.until(lambda first=first: len(reader.texts) == first + 30, "the reader is not held up")
            most = max(most, memory(running) - before)
        assert most < STALLED * 1_500_000, f"{most / STALLED:,.0f} bytes for each"
        assert [text[:5] for text in reader.texts] == [f"{number:05d}" for number in range(30 + EVENTS)]
        wait_for(lambda: "was cut off" in running.log(), "those who take nothing are cut off")
        if server in ("uvicorn", "daphne"):  # the others leave no way to drop what they hold
            wait_for(lambda: connections(running) == 1, "the server lets go of all but the reader")
            assert len(stalled) == STALLED
