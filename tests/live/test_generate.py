"""A producer of one's own as a stream, on real servers, with the package's application and with Django's own."""

from __future__ import annotations

import json
import time

import psutil
import pytest

from tests.live.client import Client
from tests.live.conftest import SERVERS
from tests.server import wait_for


@pytest.fixture(params=SERVERS)
def server(request):
    return request.param


@pytest.fixture(params=["detached", "plain"])
def running(request, server, start, database_of):
    with start(server, database_of("sqlite"), env={"PLAIN": "yes" if request.param == "plain" else ""}) as running:
        yield running


def production(server):
    return json.loads(server.request("GET", "/generate/production/")[2])


KINDS = pytest.mark.parametrize("kind", ["", "&sync"], ids=["async", "sync"])


@KINDS
def test_the_first_item_comes_while_the_second_is_thought_about(running, kind):
    client = Client(running, [], path="/generate/", query=f"count=2&pause=1{kind}")
    client.until(lambda: b"data: 0 " in client.body, "the first item")
    assert production(running)["made"] == 1
    assert b"data: 1 " not in client.body
    client.over()
    assert client.ended
    assert client.body.endswith(b'event: done\ndata: {"reason":"end"}\n\n')
    client.leave()


@KINDS
def test_a_client_that_leaves_ends_the_producer(running, kind):
    client = Client(running, [], path="/generate/", query=f"count=1000000&pause=0.05{kind}")
    client.until(lambda: b"data: 0 " in client.body, "the first item")
    left_at = time.monotonic()
    client.leave()
    wait_for(lambda: production(running)["ended_at"], "the producer ends")
    assert production(running)["ended_at"] - left_at < 5  # meant: at once; the machine may be busy
    assert production(running)["made"] < 1000


@KINDS
@pytest.mark.parametrize(
    ("server", "running"),
    # daphne with Django's own application takes all that it is given.
    [("uvicorn", "detached"), ("uvicorn", "plain"), ("daphne", "detached")],
    indirect=True,
)
def test_a_client_that_does_not_read_holds_the_producer_up(running, kind):
    client = Client(running, [], path="/generate/", query=f"count=1000000&bytes=10000{kind}")
    client.until(lambda: b"data: 0 " in client.body, "the first item")
    made = -1

    def rests() -> bool:
        nonlocal made
        before, made = made, production(running)["made"]
        time.sleep(0.2)
        return before == made

    wait_for(rests, "the producer waits")
    assert made < 5000
    assert psutil.Process(running.pid).memory_info().rss < 500e6
    client.leave()


def test_a_source_that_fails_is_cut_and_the_server_lives_on(server, start, database_of):
    """daphne: an application that raises after the start of its response hangs its own client, and all that fail after
    it, for ever."""
    with start(server, database_of("sqlite"), tracebacks=True) as running:
        client = Client(running, [], path="/generate/", query="count=2&text&fail").over()
        client.leave()
        assert client.cut
        assert client.body.startswith(b"0 ")
        wait_for(lambda: "the model fell silent" in running.log(), "the log says why")
        assert running.request("GET", "/crash/", seconds=10)[0] == 500
        assert "already been started" not in running.log()
