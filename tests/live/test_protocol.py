"""What the wire carries, on real servers: to stock curl and byte for byte."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.live.client import connect
from tests.services import missing

HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache, no-store, private, no-transform",
    "x-accel-buffering": "no",
    "content-encoding": "identity",
    "x-content-type-options": "nosniff",
}
REFUSED = b"You may not read these channels.\n"


def test_stock_curl_shows_frames(site, book):
    if not shutil.which("curl"):
        missing("This test needs curl.")
    url = f"http://127.0.0.1:{site.server.port}/events/?channel=public.curl"
    # --max-filesize does not end a stream and --max-time would be a sleep: curl is read until the frame is there.
    curl = subprocess.Popen(["curl", "-sN", "--max-time", "60", url], stdout=subprocess.PIPE)
    try:
        lines = [curl.stdout.readline() for _ in range(4)]
        assert re.fullmatch(rb"retry: [0-9]+\n\nid: [0-9]+\n\n", b"".join(lines))
        [text] = book.post(site.server, "each", ["public.curl"])
        lines = [curl.stdout.readline() for _ in range(3)]
        assert b"".join(lines) == f"id: {site.database.positions()[text]}\ndata: {text}\n\n".encode()
    finally:
        curl.kill()
        curl.wait()
        curl.stdout.close()


def test_the_headers_are_exactly_these(site):
    with connect(site.server, ["public.a"]) as client:
        names = [name for name, _ in client.headers]
        assert {name: value for name, value in client.headers if name in HEADERS} == HEADERS
        assert len(names) == len(set(names)), "a header came twice"
        assert "content-length" not in names
        # Ours would be a second one beside the server's, and is an error over HTTP/2.
        assert "connection" not in names


def test_retry_and_an_id_come_before_any_event(site, book):
    cursor = site.database.head()
    texts = book.post(site.server, "batch", ["public.first"] * 2)
    with connect(site.server, ["public.first"], cursor) as client:
        client.has(*texts)
        assert re.match(b"retry: [0-9]+\n\nid: %d\n\n" % cursor, client.body)
        assert 1500 <= client.parser.retry <= 4500
    with connect(site.server, ["public.first"]) as client:
        assert re.fullmatch(rb"retry: [0-9]+\n\nid: ([0-9]+)\n\n", client.body)
        assert client.last == site.database.head()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_not_allowed(site, method):
    status, headers, _ = site.server.request(method, "/events/?channel=public.a", b"")
    assert (status, headers["allow"]) == (405, "GET, HEAD, OPTIONS")


def test_head_shows_the_headers_and_opens_no_stream(site):
    status, headers, body = site.server.request("HEAD", "/events/?channel=public.a")
    assert (status, body) == (200, b"")
    assert {name: value for name, value in headers.items() if name in HEADERS} == HEADERS


def test_options_says_what_is_allowed(site):
    status, headers, body = site.server.request("OPTIONS", "/events/?channel=public.a")
    assert (status, headers["allow"], body) == (200, "GET, HEAD, OPTIONS", b"")


@pytest.mark.parametrize(
    "query",
    [
        "channel=secret",
        "channel=secret.unheard-of",
        "channel=public.a&channel=secret",
        "channel=secret&since=0",
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_refusal_looks_the_same_whatever_was_asked(site, method, query):
    status, headers, body = site.server.request(method, f"/events/?{query}")
    assert (status, body) == (403, REFUSED if method == "GET" else b"")
    assert (headers["content-type"], headers["content-length"]) == (
        "text/plain; charset=utf-8",
        str(len(REFUSED)),
    )


@pytest.mark.parametrize(
    "query",
    [
        "",
        "&".join(f"channel=c{number}" for number in range(21)),
        "channel=",
        "channel=a%20b",
        "channel=a%0d%0aX-Forged:%201",
        "channel=%00",
        f"channel={'c' * 101}",
        "channel=%C3%A9",
        "channel=public.a&channel=/",
        "channel=public.a&last=-1",
    ],
)
def test_a_request_without_sense_is_refused(site, query):
    status, headers, body = site.server.request("GET", f"/events/?{query}")
    assert (status, headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert "x-forged" not in headers
    assert len(body) < 300


def test_twenty_channels_are_not_too_many(site, book):
    channels = [f"public.{number}" for number in range(20)]
    with connect(site.server, channels) as client:
        client.has(*book.post(site.server, "batch", channels)).settle()
    book.judge(site.database, client)


@pytest.mark.parametrize(("cursor", "reason"), [("99999999", "ahead"), ("-1", "malformed"), ("x", "malformed")])
def test_a_cursor_that_is_not_ours_is_told_so(site, cursor, reason):
    with connect(site.server, ["public.a"], cursor) as client:
        assert [(one.reset, one.id) for one in client.log.arrivals if one.reset] == [(reason, site.database.head())]
