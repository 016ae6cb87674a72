from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.live.client import Client
from tests.live.database import make_database
from tests.proxy import proxy_to
from tests.server import serve
from tests.services import need_redis
from tests.settings import REDIS_URL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.live.database import Database
    from tests.proxy import Proxy
    from tests.server import Server

SETTINGS = "tests.security.settings"


class Somebody(NamedTuple):
    """A user who is logged in."""

    pk: int
    channels: list[str]
    cookie: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Cookie": self.cookie}


class Workers(NamedTuple):
    """Two processes of one project, with a broker that can be cut off from both."""

    one: Server
    other: Server
    broker: Proxy
    database: Database

    def log_in(self) -> Somebody:
        _, headers, body = self.one.request("POST", "/in/")
        found = json.loads(body)
        return Somebody(found["user"], found["channels"], headers["set-cookie"].split(";")[0])


@contextmanager
def stream(
    server: Server, channels: list[str], headers: Mapping[str, str], last: int | None = None, path: str = "/events/"
) -> Iterator[Client]:
    """An open stream of somebody."""
    client = Client(server, channels, last, path=path, headers=headers)
    try:
        yield client.opened()
    finally:
        client.leave()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with make_database("sqlite", tmp_path_factory.mktemp("security")) as database:
        yield database


def _workers(database: Database, factory: pytest.TempPathFactory, **sse: Any) -> Iterator[Workers]:
    need_redis()
    redis = urlsplit(REDIS_URL)
    with ExitStack() as stack:
        broker = stack.enter_context(proxy_to(redis.hostname or "127.0.0.1", redis.port or 6379))
        env = {
            **database.env,
            "LIVE_SSE": json.dumps(sse),
            "BROKER_URL": f"redis://127.0.0.1:{broker.port}{redis.path}",
        }
        servers = [
            stack.enter_context(serve("uvicorn", SETTINGS, factory.mktemp("worker") / f"{name}.log", env))
            for name in ("one", "other")
        ]
        yield Workers(*servers, broker, database)


@pytest.fixture(scope="package")
def told(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Workers that never ask again: only a notice closes a stream."""
    yield from _workers(database, tmp_path_factory, RECHECK=None)


@pytest.fixture(scope="package")
def asking(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Workers that ask again every second."""
    yield from _workers(database, tmp_path_factory, RECHECK=1)
