"""Servers that are killed, that grow old, and that have no descriptors left."""

from __future__ import annotations

import random
import resource
import signal
import time
from contextlib import ExitStack

import pytest

from tests.faults.ledger import late, percentile
from tests.faults.publisher import publisher
from tests.server import wait_for

pytestmark = pytest.mark.loud
CHANNELS = ["public.a", "public.b"]
KILLS = 20
RETRY = 1.0


@pytest.mark.long
def test_workers_killed_while_they_stream(database, start, book, browsers, figures, tmp_path):
    """A frame that was cut is read again whole, from the other worker."""
    streams = 200
    with ExitStack() as stack, publisher(database.env, tmp_path / "log", CHANNELS, rate=50) as publishing:

        def worker():
            return stack.enter_context(start("uvicorn", database, RETRY=int(RETRY * 1000), tracebacks=True))

        workers = [worker(), worker()]
        crowd = browsers([one.port for one in workers], streams, CHANNELS, patience=True)
        for _ in range(KILLS):
            publishing.has_published(sum(one.ended > 0 for one in publishing.take()) + 20)
            victim = workers.pop(random.randrange(2))
            crowd.ports.remove(victim.port)
            victim.stop(signal.SIGKILL)
            workers.append(worker())
            crowd.ports.append(workers[-1].port)
            crowd.all_live()
        publishing.stop()
        book.add(publishing)
        crowd.reach(book.say_goodbye(workers[0], CHANNELS, database))
        verdict = book.verdict(database, crowd)
    assert not crowd.refusals
    assert not crowd.resets
    gap = percentile(crowd.gaps, 0.95)
    assert gap < 1.5 * RETRY + 10
    figures(streams=streams, kills=KILLS, **verdict, **{"p95 away s": gap, "retry s": RETRY})


def test_streams_end_at_different_ages_and_go_on(database, start, book, browsers, figures, tmp_path):
    streams, age = 200, 5.0
    with (
        start("uvicorn", database, MAX_AGE=age, RETRY=500) as server,
        publisher(database.env, tmp_path / "log", CHANNELS, rate=20) as publishing,
    ):
        crowd = browsers([], 0, CHANNELS, patience=True)
        crowd.ports.append(server.port)
        crowd.add(streams, CHANNELS)
        wait_for(lambda: all(len(one.ends) >= 2 for one in crowd.browsers), "every stream has ended twice", 60)
        publishing.stop()
        book.add(publishing)
        # Each is away for a moment every few seconds, so they need never all be live at once.
        crowd.reach(book.say_goodbye(server, CHANNELS, database))
        ends = [end for browser in crowd.browsers for end in browser.ends]
        verdict = book.verdict(database, crowd)
    ages = [end.age for end in ends]
    assert all(end.clean for end in ends), "cut, not ended"
    spread = (max(ages) - min(ages)) / age
    assert spread >= 0.2
    figures(streams=streams, **verdict, **{"ends": len(ends), "youngest s": min(ages), "oldest s": max(ages)})


def test_no_descriptors_left(database, start, book, browsers, figures):
    """Those that are open live on, and as soon as some leave, others come in."""
    limit, wanted = 256, 400
    with start("uvicorn", database, RETRY=500, RECHECK=2, tracebacks=True) as server:
        early = browsers([server.port], 100, CHANNELS)
        early.do(lambda: None)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (limit, limit))
        late_ones = browsers([], 0, CHANNELS)
        late_ones.ports.append(server.port)
        late_ones.add(wanted - 100, CHANNELS)
        wait_for(lambda: sum(one.live for one in late_ones.browsers) > 50, "some more are let in")
        time.sleep(2)  # in which the server meets its limit again and again
        refused = wanted - 100 - sum(one.live for one in late_ones.browsers)
        assert refused > 0, "the limit was not met"
        early.all_live()
        assert all(len(one.connections) == 1 for one in early.browsers), "an open stream was lost"
        with publisher(database.env, server.output.parent / "log", CHANNELS, count=20, rate=20) as publishing:
            publishing.finish()
        book.add(publishing)
        for one in late_ones.browsers[:-100]:
            late_ones.do(one.leave)
        begun = time.monotonic()
        late_ones.all_live()
        recovered = time.monotonic() - begun
        positions = book.say_goodbye(server, CHANNELS, database)
        early.reach(positions)
        late_ones.reach(positions)
        verdict = book.verdict(database, early, late_ones)
        assert all(len(one.connections) == 1 for one in early.browsers), "an open stream was lost"
    assert not early.refusals + late_ones.refusals, "an EventSource would have given up"
    assert recovered < 30
    lateness = late(book.publications, early.logs)
    figures(
        descriptors=limit,
        wanted=wanted,
        **{"could not come in": refused, "recovered s": recovered, "latency p99 s": percentile(lateness, 0.99)},
        **verdict,
    )
