"""A shared cache in front, nginx's own, with one key for everybody: nobody is given what was somebody else's."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.live.client import Client
from tests.nginx import nginx
from tests.security.conftest import SETTINGS, log_in, stream
from tests.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.live.database import Database
    from tests.server import Server

STREAM, JSON = "text/event-stream", "application/json"
CACHING = {
    "upstream django {": "proxy_cache_path var/nginx/cache keys_zone=shared:1m;\n\nupstream django {",
    "proxy_connect_timeout 2s;": """proxy_connect_timeout 2s;

    proxy_cache shared;
    proxy_cache_key $request_uri;  # of no cookie
    proxy_cache_valid any 10m;
    proxy_ignore_headers X-Accel-Buffering;  # what is not buffered is not cached: that alone is to save nobody
    add_header X-Cache-Status $upstream_cache_status always;""",
    "proxy_cache off;": "",
    "proxy_buffering off;": "",
}
"""``deploy/site.conf`` as somebody might write it who wants everything cached, also 403 and 400."""


class Site:
    """One project behind one cache."""

    def __init__(self, server: Server, front: Server) -> None:
        self.server = server
        self.front = front

    def log_in(self) -> dict[str, str]:
        """Return the headers of somebody new, who is sent one event."""
        who = log_in(self.server)
        self.server.request("POST", f"/send/user.{who.pk}/", json.dumps(f"of {who.pk}").encode())
        return {**who.headers, "X-Pk": str(who.pk)}

    def get(self, path: str, headers: dict[str, str], accept: str = STREAM) -> tuple[int, dict[str, str], bytes]:
        """Return an answer that has an end, through the cache, and never out of it."""
        status, answered, body = self.front.request("GET", path, headers={**headers, "Accept": accept})
        assert answered["x-cache-status"] == "MISS"
        return status, answered, body


@contextmanager
def site(server: str, database: Database, directory: Path, **sse: object) -> Iterator[Site]:
    (directory / "nginx").mkdir()
    env = {**database.env, "LIVE_SSE": json.dumps(sse)}
    with (
        serve(server, SETTINGS, directory / "server.log", env) as behind,
        nginx(directory / "nginx", behind.port, **CACHING) as front,
    ):
        yield Site(behind, front)


def test_were_nothing_cached_the_others_would_prove_nothing(database: Database, tmp_path: Path) -> None:
    with site("wsgi", database, tmp_path) as one:
        answers = [one.front.request("GET", "/cached/") for _ in range(2)]
    assert [headers["x-cache-status"] for _, headers, _ in answers] == ["MISS", "HIT"]
    assert answers[0][2] == answers[1][2]


def test_a_stream_that_ended(database: Database, tmp_path: Path) -> None:
    """A cache keeps what is complete. Each asks for the one address whose channel is their own."""
    with site("uvicorn", database, tmp_path) as one:
        for who in (one.log_in(), one.log_in(), one.log_in()):
            with stream(one.front, [], who, path="/own/", last=0) as client:
                client.has(f"of {who['X-Pk']}")
                one.server.request("POST", f"/do/closed-by-user/{who['X-Pk']}/", headers=who)
                client.until(lambda client=client: client.ended, "the stream ends")
            assert dict(client.headers)["x-cache-status"] == "MISS"
            assert [text for text in client.texts if text.startswith("of ")] == [f"of {who['X-Pk']}"]


@pytest.mark.parametrize(("server", "accept"), [("wsgi", STREAM), ("wsgi", JSON), ("uvicorn", JSON)])
def test_what_is_polled(database: Database, tmp_path: Path, server: str, accept: str) -> None:
    with site(server, database, tmp_path) as one:
        for who in (one.log_in(), one.log_in()):
            for _ in range(2):
                status, _, body = one.get("/own/?since=0", who, accept)
                assert status == 200
                assert b"of " + who["X-Pk"].encode() in body
                assert body.count(b"of ") == 1
        assert one.get("/own/?since=0", {}, accept)[0] == 403


@pytest.mark.parametrize("server", ["uvicorn", "wsgi"])
def test_a_stream_and_json_of_one_address(database: Database, tmp_path: Path, server: str) -> None:
    with site(server, database, tmp_path) as one:
        who = one.log_in()
        for accept in (JSON, STREAM, JSON):
            if accept == JSON or server == "wsgi":
                kind = one.get("/own/?since=0", who, accept)[1]["content-type"]
            else:
                with stream(one.front, [], who, path="/own/", last=0) as client:
                    kind = dict(client.headers)["content-type"]
            assert kind.startswith(accept)


@pytest.mark.parametrize(("server", "accept"), [("wsgi", STREAM), ("wsgi", JSON), ("uvicorn", JSON)])
def test_a_refusal_is_nobody_elses(database: Database, tmp_path: Path, server: str, accept: str) -> None:
    """Kept for the next, it would shut out whoever may read; a yes that is kept would let everybody in."""
    with site(server, database, tmp_path) as one:
        ann, bob = one.log_in(), one.log_in()
        path = f"/events/?channel=user.{ann['X-Pk']}&since=0"
        statuses = [one.get(path, who, accept)[0] for who in (bob, ann, {}, ann, bob)]
        assert statuses == [403, 200, 403, 200, 403]
        assert [one.get("/events/", who, accept)[0] for who in (ann, bob)] == [400, 400]


def test_who_has_too_many_streams_sends_nobody_else_away(database: Database, tmp_path: Path) -> None:
    """That answer is a 200, which caches keep most gladly."""
    with site("uvicorn", database, tmp_path, MAX_STREAMS_PER_USER=1) as one:
        ann, bob = one.log_in(), one.log_in()
        with stream(one.front, [], ann, path="/own/", last=0):
            over = Client(one.front, [], 0, path="/own/", headers=ann).over()
            over.leave()
            assert (over.status, over.parser.id, dict(over.headers)["x-cache-status"]) == (200, "", "MISS")
            with stream(one.front, [], bob, path="/own/", last=0) as client:
                client.has(f"of {bob['X-Pk']}")


@pytest.mark.parametrize("accept", [STREAM, JSON])
def test_who_has_read_too_much_sends_nobody_else_away(database: Database, tmp_path: Path, accept: str) -> None:
    with site("wsgi", database, tmp_path, MAX_REPLAY=1) as one:
        ann, bob = one.log_in(), one.log_in()
        one.server.request("POST", f"/send/user.{ann['X-Pk']}/", b'"of more than the limit"')
        assert b"of " in one.get("/own/?since=0", ann, accept)[2]
        assert b"of " not in one.get("/own/?since=0", ann, accept)[2]
        assert b"of " in one.get("/own/?since=0", bob, accept)[2]
