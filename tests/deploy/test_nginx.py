"""nginx with the files of ``deploy/``: what they promise for streams."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.live.client import connect
from tests.live.conftest import QUICK_POLL
from tests.nginx import DEPLOY, binary, nginx
from tests.server import DEADLINE, free_port

BIG = 100
"""Events of 60 kB: more than the sockets between two servers hold."""


def test_the_files_run_as_they_are(tmp_path):
    """The command of nginx.conf's head, with nothing replaced."""
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    (tmp_path / "var/nginx").mkdir(parents=True)
    done = subprocess.run(
        [binary(), "-t", "-p", str(tmp_path), "-c", "deploy/nginx.conf", "-e", "stderr"],
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done.stderr
    assert "[warn]" not in done.stderr, done.stderr


def test_a_stream_goes_through_as_it_is(start, database, directory, book):
    with (
        start("uvicorn", database, POLL_INTERVAL=QUICK_POLL) as server,
        nginx(directory, server.port) as front,
        connect(front, ["public.a"]) as client,
    ):
        for _ in range(5):  # each arrives before the next is published: nobody on the way collects them
            client.has(*book.post(server, "atomic", ["public.a"]))
        book.judge(database, client.settle())
        headers = dict(client.headers)
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["content-encoding"] == "identity"
        assert headers["transfer-encoding"] == "chunked"  # so that an end can be told from a cut


@pytest.mark.parametrize("path", ["/", "/events/?channel=public.a"])
def test_django_is_told_who_asks(directory, path):
    """ALLOWED_HOSTS and the CSRF check look at it; nginx drops it where a location has another header of its own."""
    with recording() as (port, requests), nginx(directory, port) as front:
        front.request("GET", path, headers={"Last-Event-ID": "41"})
        version, headers = requests[f"GET {path}"]
        assert version == "HTTP/1.1"
        assert headers["Host"] == f"127.0.0.1:{front.port}"
        assert headers["X-Forwarded-For"] == "127.0.0.1"
        assert headers["X-Forwarded-Proto"] == "http"
        assert headers["Last-Event-ID"] == "41"
        assert "Connection" not in headers


UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket"}


def test_a_websocket_is_asked_for_as_one(directory):
    with recording() as (port, requests), nginx(directory, port) as front:
        front.request("GET", "/chat/", headers=UPGRADE)
        headers = requests["GET /chat/"][1]
        assert (headers["Connection"], headers["Upgrade"]) == ("upgrade", "websocket")
        assert headers["Host"] == f"127.0.0.1:{front.port}"
        front.request("GET", "/events/", headers=UPGRADE)
        assert "Connection" not in requests["GET /events/"][1]


@contextmanager
def recording():
    """A server that notes what it is asked, and says nothing to it: its port, and its notes."""
    requests = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests[f"{self.command} {self.path}"] = self.request_version, self.headers
            self.send_response(204)
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1], requests
        server.shutdown()
        thread.join()


def test_a_client_that_does_not_read_fills_no_disk(start, database, directory):
    with (
        start("uvicorn", database, POLL_INTERVAL=QUICK_POLL) as server,
        nginx(directory, server.port) as front,
        connect(front, ["public.big"]) as client,
    ):
        database.manage("shell", "-c", _publish_big())
        client.until(lambda: sum(len(block.data) == 60_002 for block in client.blocks) == BIG, "all arrive")
    assert "temporary file" not in front.log()  # nginx warns of each


def _publish_big() -> str:
    return f"from django_sse import send_events; send_events([('public.big', None, 'x' * 60_000)] * {BIG})"


def test_a_heartbeat_within_the_timeout_keeps_the_connection(start, database, directory):
    """In proportion, these 2 and 0.5 seconds are the files' 60 and the default's 15."""
    with (
        start("uvicorn", database, HEARTBEAT=0.5) as server,
        nginx(directory, server.port, **{"proxy_read_timeout 60s;": "proxy_read_timeout 2s;"}) as front,
        connect(front, ["public.quiet"]) as client,
    ):
        client.until(lambda: len(client.blocks) > 10, "ten heartbeats arrive, which takes two timeouts")


def test_a_heartbeat_beyond_the_timeout_does_not(start, database, directory):
    with (
        start("uvicorn", database, HEARTBEAT=DEADLINE) as server,
        nginx(directory, server.port, **{"proxy_read_timeout 60s;": "proxy_read_timeout 1s;"}) as front,
        connect(front, ["public.quiet"]) as client,
    ):
        assert client.over().cut


def test_without_a_server_a_stream_is_told_when_to_ask_again(directory):
    with nginx(directory, 1) as front:
        status, headers, body = front.request("GET", "/events/?channel=public.a")
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert headers["cache-control"] == "no-store"
        assert re.fullmatch(rb"retry: (1000|1500|2000|2500)\n\n", body)
        assert len({front.request("GET", "/events/")[2] for _ in range(40)}) > 1  # not all at once
        assert front.request("GET", "/")[0] == 502  # a page is not a stream


JSON = ["application/json", "application/json, */*", "application/json, text/event-stream", "Application/JSON"]


@pytest.mark.parametrize("accept", JSON)
def test_without_a_server_a_program_is_told_so(directory, accept):
    with nginx(directory, 1) as front:
        status, headers, _ = front.request("GET", "/events/?channel=public.a", headers={"Accept": accept})
        assert (status, headers["retry-after"]) == (503, "2")
        assert headers["content-type"] == "text/html"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize("accept", ["text/event-stream", "text/event-stream, application/json", "*/*"])
def test_without_a_server_a_stream_of_another_origin_may_read_when_to_ask_again(directory, accept):
    with nginx(directory, 1) as front:
        headers = {"Accept": accept, "Origin": "https://app.example"}
        status, headers, _ = front.request("GET", "/events/?channel=public.a", headers=headers)
        assert (status, headers["content-type"]) == (200, "text/event-stream")
        assert headers["access-control-allow-origin"] == "https://app.example"
        assert headers["access-control-allow-credentials"] == "true"
        assert "retry-after" not in headers


def test_the_name_is_the_sites_beside_a_default_server(directory):
    """Such as Debian's, on the same port."""
    port = free_port()
    default = f"server {{ listen 127.0.0.1:{port} default_server; return 418; }}\n\nupstream django {{"
    ours = f"proxy_http_version 1.1; listen 127.0.0.1:{port};"
    both = {"upstream django {": default, "proxy_http_version 1.1;": ours}
    with nginx(directory, 1, **both) as front:
        shared = replace(front, port=port)
        assert shared.request("GET", "/", headers={"Host": "other.example"})[0] == 418
        assert shared.request("GET", "/", headers={"Host": "shop.example"})[0] == 502


def test_what_the_application_refuses_stays_refused(start, database, directory):
    with start("uvicorn", database) as server, nginx(directory, server.port) as front:
        assert front.request("GET", "/events/?channel=secret")[0] == 403
        assert front.request("GET", "/events/")[0] == 400


def test_the_second_server_is_asked_when_the_first_is_gone(start, database, directory, book):
    with start("uvicorn", database) as server, nginx(directory, 1, server.port) as front:
        for _ in range(4):
            with connect(front, ["public.a"]) as client:
                client.has(*book.post(server, "atomic", ["public.a"]))


def test_it_is_gone_afterwards(directory):
    with nginx(directory, 1) as front:
        assert front.answers()
    assert not front.answers()
