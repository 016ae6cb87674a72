"""A PostgreSQL that is down when a client comes, that goes away under open streams, and that ends sessions."""

from __future__ import annotations

import time

import pytest

from tests.faults.ledger import late, percentile
from tests.faults.publisher import publisher
from tests.server import wait_for

CHANNELS = ["public.a", "public.b"]
RETRY = 1.0


@pytest.mark.parametrize("path", ["/events/", "/fixed/"])
def test_down_when_clients_come(postgresql, database, start, book, figures, browsers, path):
    """They are told to come back, by 200 and the end: any other status would end an EventSource for good."""
    streams = 50
    channels = ["public.fixed"]
    with start("uvicorn", database, RETRY=int(RETRY * 1000), tracebacks=True) as server:
        postgresql.stop()
        try:
            status, headers, body = server.request("GET", f"{path}?channel=public.fixed")
            assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8"), body
            assert body.startswith(b"retry: ")
            assert b"Traceback" not in body
            crowd = browsers([], 0, channels, patience=True, path=path)
            crowd.ports.append(server.port)
            crowd.add(streams, channels)
            wait_for(lambda: all(len(one.connections) >= 2 for one in crowd.browsers), "all have come in vain")
        finally:
            postgresql.start()
        begun = time.monotonic()
        crowd.all_live()
        back = time.monotonic() - begun
        crowd.reach(book.say_goodbye(server, channels, database))
        verdict = book.verdict(database, crowd)
    assert crowd.refusals == []
    assert back < 1.5 * RETRY + 20
    figures(streams=streams, **{"back s": back, "retry s": RETRY}, **verdict)


@pytest.mark.long
@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_away_under_open_streams(postgresql, database, start, book, browsers, figures, tmp_path, how):
    """The streams stay, with heartbeats; what was committed comes, and what publishers could not commit does not."""
    streams, seconds = 50, 20.0
    with (
        start("uvicorn", database, HEARTBEAT=2, tracebacks=True) as server,
        publisher(database.env, tmp_path / "log", CHANNELS, rate=50, shapes="mixed", stubborn=True) as publishing,
    ):
        crowd = browsers([server.port], streams, CHANNELS)
        publishing.has_published(50)
        (postgresql.stop if how == "stopped" else postgresql.kill)()
        before = [len(one.connections[-1].arrivals) for one in crowd.browsers]
        time.sleep(seconds)
        during = [len(one.connections[-1].arrivals) - count for one, count in zip(crowd.browsers, before, strict=True)]
        postgresql.start()
        begun = time.monotonic()
        seen = crowd.deliveries
        wait_for(lambda: crowd.deliveries > seen, "events come again")
        back = time.monotonic() - begun
        publishing.has_published(len(publishing.take()) + 50)
        publishing.stop()
        book.add(publishing)
        crowd.reach(book.say_goodbye(server, CHANNELS, database))
        verdict = book.verdict(database, crowd)
    assert min(during) >= seconds / 2 / 3, "the heart has stopped"
    assert verdict["connections"] == streams, "a stream was lost"
    assert any(one.outcome != "committed" for one in publishing.publications)
    assert back < 30
    figures(streams=streams, **{"away s": seconds, "back s": back, "heartbeats meanwhile": min(during)}, **verdict)


def test_sessions_ended_during_a_long_replay(database, start, book, browsers, figures):
    """A replay that loses its session ends its stream, which comes back with the id that it has."""
    behind, streams = 10_000, 10
    ended = 0
    with (
        start("uvicorn", database, RING_SIZE=100, RETRY=100, tracebacks=True, env={"PGAPPNAME": "replaying"}) as server,
        start("uvicorn", database) as publishing,
    ):
        floor = database.head()
        for _ in range(behind // 500):
            book.post(publishing, "batch", [CHANNELS[0]] * 500)
        crowd = browsers([], 0, CHANNELS)
        crowd.ports.append(server.port)
        # Each at another place, so that they do not share their queries.
        for number in range(streams):
            crowd.add(1, CHANNELS, floor + number)
        while min(one.last or 0 for one in crowd.browsers) < floor + behind and ended < 200:
            ended += database.terminate("application_name = 'replaying'")
            time.sleep(0.05)
        crowd.all_live()
        crowd.reach(book.say_goodbye(publishing, CHANNELS, database))
        verdict = book.verdict(database, crowd)
    assert ended > 10
    assert verdict["connections"] > streams, "no replay was cut"
    assert not crowd.refusals
    assert not crowd.resets
    figures(behind=behind, streams=streams, **{"sessions ended": ended}, **verdict)


@pytest.mark.loud
def test_latency_with_idle_streams(database, start, book, browsers, figures):
    """Three hundred streams of a user each hold no connections, and ordinary requests do not notice them."""
    streams = 300
    with start("uvicorn", database, env={"PGAPPNAME": "idle"}) as server:

        def requests() -> list[float]:
            taken = []
            for _ in range(100):
                begun = time.monotonic()
                assert server.request("POST", "/publish/each/", b"[]")[0] == 200
                taken.append(time.monotonic() - begun)
            return taken

        alone = requests()
        crowd = browsers([server.port], streams, CHANNELS)
        wait_for(
            lambda: len(database.query("SELECT 1 FROM pg_stat_activity WHERE application_name = 'idle'")) <= 10,
            "at most 10 connections",
        )
        connections = len(database.query("SELECT 1 FROM pg_stat_activity WHERE application_name = 'idle'"))
        beside = requests()
        crowd.reach(book.say_goodbye(server, CHANNELS, database))
        verdict = book.verdict(database, crowd)
    assert percentile(beside, 0.5) < 10 * percentile(alone, 0.5) + 0.1
    figures(
        streams=streams,
        connections_of_the_database=connections,
        **{"request p99 s without": percentile(alone, 0.99), "request p99 s with": percentile(beside, 0.99)},
        **{"latency p99 s": percentile(late(book.publications, crowd.logs), 0.99)},
        **verdict,
    )
