"""A real nginx between browser and server: its timeouts, its buffers, and the moment when no worker is there."""

from __future__ import annotations

import json
import time

import pytest

from tests.faults.ledger import late, percentile
from tests.faults.publisher import publisher
from tests.live.client import connect
from tests.nginx import nginx
from tests.server import free_port, wait_for

CHANNELS = ["public.a", "public.b"]
PLAIN = {
    "proxy_buffering off;": "",
    "proxy_max_temp_file_size 0;": "",
    "gzip off;": "gzip on; gzip_types text/event-stream; gzip_min_length 0;",
}
"""What site.conf says about streams, taken out: nginx as it is without it, and a gzip that somebody has switched on."""


def quiet(browsers, port, seconds, streams=20):
    crowd = browsers([port], streams, ["public.quiet"])
    time.sleep(seconds)
    ends = [end for browser in crowd.browsers for end in browser.ends]
    return crowd, ends


def test_a_quiet_stream_is_not_cut(database, start, book, browsers, figures, tmp_path):
    """Each heartbeat begins nginx's time anew; one that is too slow is cut, so there was something to survive."""
    timeout, seconds = 3, 15
    with (
        start("uvicorn", database, HEARTBEAT=1) as server,
        start("uvicorn", database, HEARTBEAT=3 * timeout) as slow,
    ):
        (tmp_path / "one").mkdir()
        (tmp_path / "other").mkdir()
        replaced = {"proxy_read_timeout 60s;": f"proxy_read_timeout {timeout}s;"}
        with (
            nginx(tmp_path / "one", server.port, **replaced) as proxy,
            nginx(tmp_path / "other", slow.port, **replaced) as cutting,
        ):
            cut_ones = browsers([cutting.port], 1, ["public.quiet"])
            crowd, ends = quiet(browsers, proxy.port, seconds)
            assert ends == []
            assert cut_ones.browsers[0].ends, "nginx was to cut what is quiet for longer than its timeout"
            crowd.reach(book.say_goodbye(server, ["public.quiet"], database))
            verdict = book.verdict(database, crowd)
    figures(**{"quiet s": seconds, "proxy_read_timeout s": timeout, "heartbeat s": 1, "cut": len(ends)}, **verdict)


@pytest.mark.long
def test_a_quiet_stream_is_not_cut_with_everything_as_it_is(database, start, book, browsers, figures, tmp_path):
    """HEARTBEAT of 15 s and proxy_read_timeout of 60 s."""
    seconds = 600
    with start("uvicorn", database) as server, nginx(tmp_path, server.port) as proxy:
        crowd, ends = quiet(browsers, proxy.port, seconds)
        assert ends == []
        crowd.reach(book.say_goodbye(server, ["public.quiet"], database))
        verdict = book.verdict(database, crowd)
    figures(**{"quiet s": seconds, "proxy_read_timeout s": 60, "heartbeat s": 15, "cut": len(ends)}, **verdict)


@pytest.mark.long
@pytest.mark.parametrize("configured", ["as in deploy", "without it and with gzip"])
def test_nginx_holds_nothing_back(database, start, book, browsers, figures, tmp_path, configured):
    """Bursts and large events pass at once, also to a browser that reads slowly, and nothing is put on its disk."""
    replaced = {} if configured == "as in deploy" else PLAIN
    sse = {"MAX_EVENT_BYTES": 2_000_000}
    with start("uvicorn", database, **sse) as server, nginx(tmp_path, server.port, **replaced) as proxy:
        crowd = browsers([proxy.port], 5, CHANNELS, headers="Accept-Encoding: gzip\r\n")
        with connect(proxy, CHANNELS, headers={"Accept-Encoding": "gzip"}) as slow:
            assert ("content-encoding", "gzip") not in slow.headers
            with publisher(database.env, tmp_path / "burst", CHANNELS, count=300, shapes="mixed") as burst:
                burst.finish()

            env = {**database.env, "LIVE_SSE": json.dumps(sse)}
            with publisher(env, tmp_path / "large", CHANNELS, count=5, size=1_000_000) as large:
                large.finish()
            book.add(burst, large)
            positions = book.say_goodbye(server, CHANNELS, database)
            crowd.reach(positions)
            files = [path for path in tmp_path.rglob("*") if "proxy" in path.parts and path.is_file()]
            assert files == [], "nginx has put a stream on its disk"
            assert "buffered to a temporary file" not in proxy.log()
            slow.until(lambda: (slow.last or 0) >= max(positions.values()), "the slow one has all")
        lateness = late(burst.publications, crowd.logs)
        verdict = book.verdict(database, crowd)
    figures(
        **{"burst: latency p50 s": percentile(lateness, 0.5), "burst: latency p99 s": percentile(lateness, 0.99)},
        **{"1 MB events: p99 s": percentile(late(large.publications, crowd.logs), 0.99)},
        **verdict,
    )


def test_a_moment_without_any_server(database, start, book, browsers, figures, tmp_path):
    """nginx tells them to ask again, by 200: nobody gives up."""
    streams = 50
    port = free_port()
    with (
        start("uvicorn", database, RETRY=1000, port=port) as first,
        nginx(tmp_path, port) as proxy,
        publisher(database.env, tmp_path / "log", CHANNELS, rate=20) as publishing,
    ):
        crowd = browsers([proxy.port], streams, CHANNELS, patience=True)
        publishing.has_published(20)
        first.stop()
        wait_for(lambda: not any(one.live for one in crowd.browsers), "all are cut")
        time.sleep(3)
        with start("uvicorn", database, RETRY=1000, port=port) as second:
            begun = time.monotonic()
            crowd.all_live()
            back = time.monotonic() - begun
            publishing.stop()
            book.add(publishing)
            crowd.reach(book.say_goodbye(second, CHANNELS, database))
            verdict = book.verdict(database, crowd)
    assert crowd.refusals == [], "an EventSource would have given up"
    assert back < 30
    figures(streams=streams, **{"back s": back}, **verdict)
