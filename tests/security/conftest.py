from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.live.client import Client
from tests.live.database import make_database
from tests.proxy import proxy_to
from tests.server import serve
from tests.services import need_redis
from tests.settings import POSTGRESQL, REDIS_URL

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


def log_in(server: Server) -> Somebody:
    """Log in as a new user with every right."""
    _, headers, body = server.request("POST", "/in/")
    found = json.loads(body)
    return Somebody(found["user"], found["channels"], headers["set-cookie"].split(";")[0])


class Workers(NamedTuple):
    """Two processes of one project, with a broker that can be cut off from both."""

    one: Server
    other: Server
    broker: Proxy
    database: Database

    def log_in(self) -> Somebody:
        return log_in(self.one)


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
    """For what is the same on every database."""
    with make_database("sqlite", tmp_path_factory.mktemp("security")) as database:
        yield database


@pytest.fixture(scope="session")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database of the kind that this run is about."""
    with make_database(os.environ.get("DATABASE", "sqlite"), tmp_path_factory.mktemp("log")) as database:
        yield database


@contextmanager
def _broker_of(database: Database) -> Iterator[tuple[Proxy, dict[str, str]]]:
    """Give a way to the broker that can be cut, and the environment of a server that uses it: NOTIFY on PostgreSQL,
    else Redis."""
    if database.vendor == "postgresql":
        with proxy_to(POSTGRESQL["HOST"], int(POSTGRESQL["PORT"])) as proxy:
            yield proxy, {"NOTIFY_PORT": str(proxy.port)}
        return
    need_redis()
    redis = urlsplit(REDIS_URL)
    with proxy_to(redis.hostname or "127.0.0.1", redis.port or 6379) as proxy:
        yield proxy, {"BROKER_URL": f"redis://127.0.0.1:{proxy.port}{redis.path}"}


def _workers(database: Database, factory: pytest.TempPathFactory, **sse: Any) -> Iterator[Workers]:
    with ExitStack() as stack:
        broker, env = stack.enter_context(_broker_of(database))
        env = {**database.env, **env, "LIVE_SSE": json.dumps(sse)}
        servers = [
            stack.enter_context(serve("uvicorn", SETTINGS, factory.mktemp("worker") / f"{name}.log", env))
            for name in ("one", "other")
        ]
        yield Workers(*servers, broker, database)


@pytest.fixture(scope="package")
def told(log: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Workers that never ask again: only a notice closes a stream."""
    yield from _workers(log, tmp_path_factory, RECHECK=None)


@pytest.fixture(scope="package")
def asking(log: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """Workers that ask again every second."""
    yield from _workers(log, tmp_path_factory, RECHECK=1)
