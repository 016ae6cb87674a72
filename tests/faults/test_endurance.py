"""A thousand streams that are told to go, and a site that goes on for a long time."""

from __future__ import annotations

import os
import random
import signal
import time
from itertools import product

import psutil
import pytest

from tests.faults.publisher import publisher
from tests.server import wait_for

pytestmark = pytest.mark.loud
CHANNEL = "public.fixed"
PATH = "/fixed/"
STREAMS = 1000
SECONDS = float(os.environ.get("SOAK_SECONDS", "60"))
CHURNING = 500


@pytest.mark.long
@pytest.mark.parametrize(
    ("server", "number"),
    [
        *product(["uvicorn", "daphne", "granian", "hypercorn"], [signal.SIGTERM, signal.SIGINT]),
        *product(["uvicorn-workers", "gunicorn-asgi"], [signal.SIGTERM]),
    ],
)
def test_a_thousand_streams_are_told_to_go(server, number, database, start, browsers, figures):
    with start(server, database, tracebacks=server == "hypercorn") as running:  # it writes some of its own
        crowd = browsers([running.port], STREAMS, [CHANNEL], path=PATH)
        crowd.ports[:] = [1]  # nobody comes back to a server that is on its way out
        begun = time.monotonic()
        running.stop(number)
        took = time.monotonic() - begun
        wait_for(lambda: not any(one.live for one in crowd.browsers), "every stream is over")
        ends = [one.ends[0] for one in crowd.browsers]
        retries = {one.retry for one in crowd.browsers}
    clean = sum(end.clean for end in ends)
    assert clean == STREAMS, f"{clean} of {STREAMS} bodies ended, the others were cut"
    assert len(retries) > STREAMS / 20, "they would come back together"
    figures(server=server, streams=STREAMS, **{"ended s": took, "bodies ended": clean})


class Usage:
    """What a server process holds."""

    def __init__(self, pid):
        self._process = psutil.Process(pid)

    def __call__(self):
        return {
            "MB": self._process.memory_full_info().uss / 1e6,
            "threads": self._process.num_threads(),
            "descriptors": self._process.num_fds(),
        }


@pytest.mark.long
def test_clients_that_come_and_go_leave_nothing_behind(database, start, book, browsers, figures, tmp_path):
    with (
        start("uvicorn", database) as running,
        publisher(database.env, tmp_path / "log", [CHANNEL], rate=20) as publishing,
    ):
        crowd = browsers([running.port], CHURNING, [CHANNEL], path=PATH)
        usage = Usage(running.pid)
        rounds, visits, first = 0, 0, None
        end = time.monotonic() + SECONDS
        while time.monotonic() < end or rounds < 8:
            for browser in random.sample(crowd.browsers, CHURNING // 4):
                crowd.do(browser.leave)
                browser.away = False
                visits += 1
            crowd.all_live()
            rounds += 1
            if rounds == 4:  # the ring is full, threads are made, the allocator has what it wants
                first = usage()
        last = usage()
        assert last["MB"] < first["MB"] * 1.2 + 5
        assert last["threads"] <= first["threads"] + 5
        assert last["descriptors"] <= first["descriptors"] + 20
        publishing.stop()
        book.add(publishing)
        crowd.reach(book.say_goodbye(running, [CHANNEL], database))
        verdict = book.verdict(database, crowd)
    held = {f"{name} {when}": found[name] for name in first for when, found in (("early", first), ("late", last))}
    figures(seconds=SECONDS, visits=visits, **held, **verdict)
