"""The big run: several processes, many streams, and one thing after the other killed at random.

``FAULTS_DELIVERIES`` says how many deliveries it takes at least; ``python -m tests.faults.report`` takes a million.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from contextlib import ExitStack
from typing import Any

import pytest

from tests.faults.ledger import late, percentile
from tests.faults.publisher import Publisher, publisher
from tests.live.client import ticks
from tests.server import wait_for

pytestmark = pytest.mark.loud
DELIVERIES = int(os.environ.get("FAULTS_DELIVERIES", 20_000))
STREAMS = 200 if DELIVERIES > 100_000 else 40
WORKERS = 3
PUBLISHERS = 3
CHANNELS = [f"public.{name}" for name in "abcd"]
KEEP = 1500
"""Events that a trim leaves: a browser that was away for longer must be told so."""
PAUSE = (0.3, 1.5) if DELIVERIES < 100_000 else (0.5, 2.0)
"""Seconds between two faults."""


class Site:
    """Three uvicorns, three publishers, PostgreSQL and Redis, and what can happen to them."""

    def __init__(self, stack: ExitStack, start: Any, database: Any, redis_server: Any, book: Any, place: Any) -> None:
        self.stack = stack
        self.database = database
        self.redis = redis_server
        self.book = book
        self.place = place
        self.ports: list[int] = []
        self.workers: list[Any] = []
        self.publishers: list[Publisher] = []
        self.counts: dict[str, int] = {}
        self._start = start
        self._sse = {
            "BROKER": {"BACKEND": "django_sse.brokers.redis.RedisBroker", "OPTIONS": {"ALIAS": "redis"}},
            "RING_SIZE": 300,
            "MAX_AGE": 30,
            "RETRY": 200,
        }
        self._next: list[Any] = []
        self._numbers = iter(range(10**6))
        for _ in range(WORKERS):
            self.add_worker()
        for _ in range(PUBLISHERS):
            self.add_publisher()

    def add_worker(self) -> None:
        context = self._start("uvicorn", self.database, env=self.redis.env, tracebacks=True, **self._sse)
        self.workers.append(self.stack.enter_context(context))
        self.ports.append(self.workers[-1].port)

    def add_publisher(self) -> None:
        env = {**self.database.env, **self.redis.env, "LIVE_SSE": json.dumps(self._sse)}
        file = self.place / f"publisher-{next(self._numbers)}"
        made = publisher(env, file, CHANNELS, rate=45, shapes="mixed", stubborn=True)
        self.publishers.append(self.stack.enter_context(made))
        self.book.add(self.publishers[-1])

    def kill_worker(self) -> None:
        worker = random.choice(self.workers)
        self.workers.remove(worker)
        self.ports.remove(worker.port)
        worker.stop(signal.SIGKILL)
        self.add_worker()

    def end_worker(self) -> None:
        worker = random.choice(self.workers)
        self.workers.remove(worker)
        self.ports.remove(worker.port)
        worker.stop(signal.SIGTERM)
        self.add_worker()

    def kill_publisher(self) -> None:
        victim = random.choice(self.publishers)
        self.publishers.remove(victim)
        victim.kill()
        self.add_publisher()

    def end_database_sessions(self) -> None:
        assert self.database.terminate("random() < 0.5") >= 0

    def restart_broker(self) -> None:
        self.redis.kill()
        time.sleep(random.uniform(0, 2))
        self.redis.start()

    def trim(self) -> None:
        self.book.look_up(self.database)
        tick = next(ticks)
        assert random.choice(self.workers).request("POST", f"/trim/{KEEP}/", b"")[0] in (200, 500)
        self.book.trims.append((tick, self.database.floor()))

    def happen(self) -> None:
        """The next of all that can happen, in an order that is random each time around."""
        if not self._next:
            self._next = [
                *[self.kill_worker, self.kill_publisher, self.end_database_sessions] * 2,
                *[self.end_worker, self.restart_broker, self.trim],
            ]
            random.shuffle(self._next)
        what = self._next.pop()
        what()
        name = what.__name__.replace("_", " ")
        self.counts[name] = self.counts.get(name, 0) + 1


@pytest.mark.long
def test_random_kills_lose_nothing(database, redis_server, start, book, browsers, figures, tmp_path):
    begun = time.monotonic()
    with ExitStack() as stack:
        site = Site(stack, start, database, redis_server, book, tmp_path)

        def channels(number: int) -> list[str]:
            return random.sample(CHANNELS, 1 + number % len(CHANNELS))

        crowd = browsers(site.ports, STREAMS, channels)
        sleepers = crowd.browsers[::20]
        while crowd.deliveries < DELIVERIES:
            time.sleep(random.uniform(*PAUSE))
            site.happen()
            assert not crowd.broken, repr(crowd.broken)
            for browser in sleepers:  # asleep for so long that a trim may pass them
                if random.random() < 0.05:
                    crowd.do(browser.leave)
                elif random.random() < 0.1:
                    browser.away = False
        for one in site.publishers:
            one.stop()
        for browser in sleepers:
            browser.away = False
        crowd.all_live()
        wait_for(lambda: not database.query("SELECT 1 FROM django_sse_event WHERE position IS NULL"), "all is numbered")
        crowd.reach(book.say_goodbye(site.workers[0], CHANNELS, database))
        took = time.monotonic() - begun
        verdict = book.verdict(database, crowd)
        lateness = late(book.publications, crowd.logs)
    assert not crowd.refusals, crowd.refusals
    assert verdict["deliveries"] >= DELIVERIES
    figures(
        streams=STREAMS,
        **{"server processes": WORKERS, "publisher processes": PUBLISHERS},
        **verdict,
        **site.counts,
        resets=len(crowd.resets),
        **{"latency p50 s": percentile(lateness, 0.5), "latency p99 s": percentile(lateness, 0.99)},
        **{"p95 away s": percentile(crowd.gaps, 0.95), "took s": took},
    )
