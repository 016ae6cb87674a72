"""The limit of a user's streams over two real servers, through every broker that crosses processes."""

from __future__ import annotations

import json
import signal
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
import pytest

from tests.live.client import Client
from tests.live.database import make_database
from tests.proxy import proxy_to
from tests.security.conftest import SETTINGS, log_in
from tests.server import serve, wait_for
from tests.services import need_redis
from tests.settings import REDIS_URL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.live.database import Database
    from tests.security.conftest import Somebody
    from tests.server import Server

MOST = 3
SHORT = {"INTERVAL": 0.3, "LEASE": 2.0}
LONG = {"INTERVAL": 1000.0, "LEASE": 3000.0}
"""So long that nothing is told by and by, and nobody forgotten."""
BROKERS = {
    "redis": ("redis.RedisBroker", "redis"),
    "notify": ("postgres.PostgresBroker", "default"),
    "layer": ("channel_layer.ChannelLayerBroker", "default"),
}


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with make_database("postgresql", tmp_path_factory.mktemp("census")) as database:
        yield database


class Site:
    """Servers of one project, with one broker."""

    def __init__(self, broker: str, database: Database, place: Path) -> None:
        backend, alias = BROKERS[broker]
        self._sse = {
            "MAX_STREAMS_PER_USER": MOST,
            "BROKER": {"BACKEND": f"django_sse.brokers.{backend}", "OPTIONS": {"ALIAS": alias}},
        }
        self._database = database
        self._place = place

    @contextmanager
    def server(self, name: str, times: dict[str, float], **env: str) -> Iterator[Server]:
        env = {**self._database.env, "LIVE_SSE": json.dumps(self._sse), "CENSUS": json.dumps(times), **env}
        with serve("uvicorn", SETTINGS, self._place / f"{name}.log", env) as server:
            yield server


@pytest.fixture(params=BROKERS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    if request.param != "notify":
        need_redis()
    kind = "postgresql" if request.param == "notify" else "database"
    return Site(request.param, request.getfixturevalue(kind), tmp_path)


class Streams:
    """Those of one user, wherever they are."""

    def __init__(self, who: Somebody) -> None:
        self.who = who
        self.open: list[Client] = []

    def __enter__(self) -> Streams:
        return self

    def __exit__(self, *error: object) -> None:
        for client in self.open:
            client.leave()

    def tries(self, server: Server) -> bool:
        """Ask ``server`` for one more; tell whether it opened."""
        client = Client(server, self.who.channels[:1], headers=self.who.headers)
        client.until(lambda: client.parser.id or client.ended, "it opens, or is told to wait")
        if client.parser.id:
            self.open.append(client)
            return True
        assert client.status == 200, "any other ends an EventSource for good"
        assert 30_000 <= int(client.body.split()[1]) <= 90_000
        client.leave()
        return False

    def opens(self, server: Server, number: int) -> None:
        for _ in range(number):
            wait_for(lambda: self.tries(server), "one more opens")

    def is_full(self, server: Server) -> bool:
        if self.tries(server):
            self.open.pop().leave()
            return False
        return True


def test_over_the_limit_everybody_says_wait(site: Site) -> None:
    with site.server("one", LONG) as one, site.server("other", LONG) as other, Streams(log_in(one)) as anns:
        anns.opens(one, 2)
        anns.opens(other, 1)
        wait_for(lambda: anns.is_full(other), "it is full on the other")
        wait_for(lambda: anns.is_full(one), "it is full on the one")
        with Streams(log_in(other)) as bobs:
            bobs.opens(one, 1)
            bobs.opens(other, 1)
        anns.open.pop().leave()
        anns.opens(one, 1)
        wait_for(lambda: anns.is_full(other), "it is full again")


def test_a_newcomer_asks_the_others(site: Site) -> None:
    with site.server("one", LONG) as one, Streams(log_in(one)) as anns:
        anns.opens(one, MOST)
        with site.server("newcomer", LONG) as newcomer:
            wait_for(lambda: anns.is_full(newcomer), "it is full for the newcomer")


def test_one_that_was_killed_is_forgotten(site: Site) -> None:
    with site.server("other", SHORT) as other, ExitStack() as stack:
        killed = stack.enter_context(site.server("killed", SHORT))
        with Streams(log_in(killed)) as anns, Streams(log_in(other)) as bobs:
            anns.opens(killed, MOST)
            bobs.opens(killed, MOST - 1)
            bobs.opens(other, 1)
            wait_for(lambda: anns.is_full(other) and bobs.is_full(other), "it is full on the other")
            killed.stopped = True
            psutil.Process(killed.pid).send_signal(signal.SIGKILL)
            anns.opens(other, MOST)
            bobs.opens(other, MOST - 1)
            assert anns.is_full(other)
            assert bobs.is_full(other)


def test_one_that_ends_says_so(site: Site) -> None:
    with site.server("other", LONG) as other, ExitStack() as stack:
        ending = stack.enter_context(site.server("ending", LONG))
        with Streams(log_in(ending)) as anns:
            anns.opens(ending, MOST)
            wait_for(lambda: anns.is_full(other), "it is full on the other")
            ending.stop()
            anns.opens(other, MOST)
            assert anns.is_full(other)


@pytest.mark.parametrize("fault", ["refuse", "go_silent"])
def test_without_the_broker_each_process_counts_its_own(
    database: Database, tmp_path: Path, fault: str, request: Any
) -> None:
    need_redis()
    redis = urlsplit(REDIS_URL)
    site = Site("redis", database, tmp_path)
    with proxy_to(redis.hostname or "127.0.0.1", redis.port or 6379) as proxy:
        url = {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}{redis.path}"}
        with site.server("one", SHORT, **url) as one, site.server("other", SHORT, **url) as other:
            with Streams(log_in(one)) as anns:
                anns.opens(one, MOST)
                wait_for(lambda: anns.is_full(other), "it is full on the other")
                getattr(proxy, fault)()
                anns.opens(other, MOST)
                assert anns.is_full(one)
                assert anns.is_full(other)
                proxy.accept()
                for client in anns.open[:3]:
                    client.leave()
                anns.open = anns.open[3:]
                wait_for(lambda: anns.is_full(one), "the broker is back, so it is full on the one too")
            proxy.cut()
