"""Many who come back at once, large events, and very many channels."""

from __future__ import annotations

import json
import time

import psutil
import pytest

from tests.faults.ledger import late, percentile
from tests.faults.publisher import publisher
from tests.live.client import connect
from tests.server import wait_for

pytestmark = pytest.mark.loud
CHANNEL = "public.fixed"
PATH = "/fixed/"
"""A view whose channels the developer has fixed: no authoriser asks the database, so what is counted is ours."""


PATIENCE = 120
"""Seconds. What a machine with nothing else to do needs is printed; one that others use too may take its time."""


def transactions(database) -> int:
    """How many PostgreSQL has seen in this database. Its statistics come a moment late."""
    with database.connect() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()") if connection.info.server_version >= 150000 else None
    time.sleep(1.2)
    ((count,),) = database.query(
        f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{database.name}'"
    )
    return count


@pytest.mark.long
@pytest.mark.parametrize(("streams", "behind"), [(2000, 100), (200, 10_000)], ids=["in the ring", "in the log"])
def test_a_reconnect_storm(database, start, book, browsers, figures, tmp_path, streams, behind):
    """All are cut together, miss so many events, and come back together; meanwhile publishing goes on.

    Two million deliveries are what two cores, browsers included, do in half a minute: hence 200 that are 10,000 behind.
    """
    publishing_env = {**database.env, "LIVE_SSE": json.dumps({})}
    with start("uvicorn", database, POLL_INTERVAL=5) as server:
        crowd = browsers([], 0, [CHANNEL], path=PATH)
        crowd.ports.append(server.port)
        crowd.add(streams, [CHANNEL])
        crowd.all_live(PATIENCE)
        ports, crowd.ports[:] = crowd.ports[:], [1]
        crowd.drop()
        wait_for(lambda: not any(one.live for one in crowd.browsers), "all are cut")
        for _ in range(behind // 100):
            book.post(server, "batch", [CHANNEL] * 100)
        before = transactions(database)
        crowd.ports[:] = ports
        begun = time.monotonic()
        crowd.all_live(PATIENCE)
        live = time.monotonic() - begun
        with publisher(publishing_env, tmp_path / "log", [CHANNEL], rate=10, count=30) as publishing:
            publishing.finish()
        crowd.reach(book.say_goodbye(server, [CHANNEL], database), PATIENCE)
        caught_up = time.monotonic() - begun
        queries = transactions(database) - before
        book.add(publishing)
        verdict = book.verdict(database, crowd)
    publish = [(one.ended - one.begun) / 1e9 for one in publishing.publications]
    assert not crowd.resets
    # Besides what the replay asked, these are 30 publications and some polls.
    apart = streams * (behind // 200 + 1) * 2
    assert queries < 100 + apart / 2, f"{queries} queries; if each had asked for itself, they were about {apart}"
    assert live < 90
    figures(
        streams=streams,
        behind=behind,
        **{"all live s": live, "all caught up s": caught_up, "transactions of the database": queries},
        **{"if each asked for itself, about": 100 + apart},
        **{"publish p99 s meanwhile": percentile(publish, 0.99)},
        **verdict,
    )


@pytest.mark.parametrize("megabytes", [1, 16])
def test_a_huge_event(database, start, book, browsers, figures, tmp_path, megabytes):
    """It arrives intact, live and from the log; one that is larger than allowed is refused where it is published."""
    size = megabytes * 1024 * 1024
    sse = {"MAX_EVENT_BYTES": size + 100}
    env = {**database.env, "LIVE_SSE": json.dumps(sse)}
    with start("uvicorn", database, **sse) as server:
        crowd = browsers([server.port], 3, [CHANNEL])
        with publisher(env, tmp_path / "log", [CHANNEL], count=2, size=size) as publishing:
            publishing.finish()
        book.add(publishing)
        with publisher(env, tmp_path / "larger", [CHANNEL], count=1, size=size + 100) as refused:
            assert refused.process.wait(60) != 0
        crowd.reach(book.say_goodbye(server, [CHANNEL], database))
        lateness = late(publishing.publications, crowd.logs)
        with connect(server, [CHANNEL], 0) as replayed:
            replayed.until(lambda: len([block for block in replayed.blocks if block.type]) == 3, "all are replayed")
            lengths = [len(block.data) for block in replayed.blocks if block.type]
        verdict = book.verdict(database, crowd)
    assert lengths[:2] == [size + 17] * 2
    assert verdict["events"] == 3
    figures(megabytes=megabytes, **{"slowest s": max(lateness)}, **verdict)


@pytest.mark.long
def test_a_hundred_thousand_channels(database, start, book, browsers, figures):
    """What a channel costs is given back when its last stream leaves."""
    streams, each, rounds = 200, 500, 5
    memory = []
    with start("uvicorn", database, MAX_CHANNELS=each, AUTHORIZE="django_sse.access.authorize") as server:
        process = psutil.Process(server.pid)
        with connect(server, [CHANNEL]):
            pass
        memory.append(process.memory_info().rss)
        for number in range(rounds):
            crowd = browsers(
                [server.port], streams, lambda stream, n=number: [f"public.{n}.{stream}.{i}" for i in range(each)]
            )
            during = process.memory_info().rss
            positions = book.say_goodbye(server, [f"public.{number}.{stream}.7" for stream in range(streams)], database)
            crowd.reach(positions)
            for browser in crowd.browsers:
                crowd.do(browser.leave)
            wait_for(lambda: len(process.net_connections("tcp")) < 20, "all have left")
            memory.append(process.memory_info().rss)
            book.clients += crowd.logs
        verdict = book.verdict(database)
    # The allocator keeps what it has once had; a leak would grow by each round's channels.
    assert memory[-1] < 1.25 * memory[2] + 5_000_000
    figures(
        channels=streams * each,
        rounds=rounds,
        **{"memory before MB": memory[0] / 1e6, "with them MB": during / 1e6},
        **{f"after round {number} MB": bytes_ / 1e6 for number, bytes_ in enumerate(memory[1:], 1)},
        **verdict,
    )
