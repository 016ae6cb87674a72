from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import pytest

from tests.checker import Publication, judge
from tests.live.client import Client, ticks
from tests.live.database import SETTINGS, Database, make_database
from tests.server import serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.checker import Connection
    from tests.server import Server

SERVERS = ("daphne", "uvicorn")
DATABASES = ("sqlite", "postgresql")
QUICK_POLL = 0.05
"""Where a test waits for the poll, so that it need not wait long."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every test that takes ``site`` runs on each server with each database."""
    if "site" in metafunc.fixturenames:
        pairs = [(server, database) for database in DATABASES for server in SERVERS]
        metafunc.parametrize("site", pairs, ids="-".join, indirect=True, scope="session")


@pytest.fixture(scope="session")
def database_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Database]]:
    """The database of a vendor, made once."""
    with ExitStack() as stack:
        made: dict[str, Database] = {}

        def database_of(vendor: str) -> Database:
            if vendor not in made:
                made[vendor] = stack.enter_context(make_database(vendor, tmp_path_factory.mktemp("live")))
            return made[vendor]

        yield database_of


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, database_of: Callable[[str], Database]) -> Database:
    return database_of(request.param)


@pytest.fixture
def postgresql(database_of: Callable[[str], Database]) -> Database:
    return database_of("postgresql")


Start = "Callable[..., AbstractContextManager[Server]]"


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """``start("daphne", database, POLL_INTERVAL=1)``: a server of one's own with these settings of ``DJANGO_SSE``."""
    count = iter(range(100))

    def start(
        server: str,
        database: Database,
        *,
        env: dict[str, str] | None = None,
        tracebacks: bool = False,
        port: int = 0,
        **sse: Any,
    ) -> AbstractContextManager[Server]:
        env = {**database.env, "LIVE_SSE": json.dumps(sse), **(env or {})}
        return serve(server, SETTINGS, tmp_path / f"server-{next(count)}.log", env, tracebacks=tracebacks, port=port)

    return start


class Site(NamedTuple):
    server: Server
    database: Database


@pytest.fixture(scope="session")
def site(
    request: pytest.FixtureRequest,
    database_of: Callable[[str], Database],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """A running server that tests share, with a small ring so that replay comes from the log too."""
    server, vendor = request.param
    database = database_of(vendor)
    env = {**database.env, "LIVE_SSE": json.dumps({"RING_SIZE": 5, "POLL_INTERVAL": QUICK_POLL})}
    with serve(server, SETTINGS, tmp_path_factory.mktemp(server) / "server.log", env) as running:
        yield Site(running, database)


class Book:
    """What the publishers of one test wrote down, and the verdict over it."""

    def __init__(self) -> None:
        self.publications: list[Publication] = []
        self.clients: list[Connection] = []
        self.trims: list[tuple[int, int]] = []

    def note(self, channel: str, outcome: Any = "committed") -> Publication:
        """Begin to publish: the text of a new event is its name."""
        publication = Publication(channel, uuid4().hex[:16], outcome, begun=next(ticks))
        self.publications.append(publication)
        return publication

    def end(self, *publications: Publication) -> list[str]:
        for publication in publications:
            publication.ended = next(ticks)
        return [publication.uuid for publication in publications]

    def post(self, server: Server, how: str, channels: Iterable[str], *, kept: int | None = None) -> list[str]:
        """Have the server's view ``how`` publish one event to each of ``channels``; the first ``kept`` (default all)
        are to be committed. Returns their texts."""
        made = [
            self.note(channel, "committed" if kept is None or place < kept else "rolled back")
            for place, channel in enumerate(channels)
        ]
        body = json.dumps([(publication.channel, publication.uuid) for publication in made])
        status, _, answer = server.request("POST", f"/publish/{how}/", body.encode())
        assert (status, answer) == (200, b"published")
        return self.end(*made)[:kept]

    def look_up(self, database: Database) -> None:
        """Note the positions that the table has; call it before they are trimmed."""
        positions = database.positions()
        for publication in self.publications:
            publication.position = positions.get(publication.uuid, publication.position)

    def judge(self, database: Database, *clients: Client) -> None:
        """Fail for every fault of what ``clients`` saw."""
        self.look_up(database)
        connections = [*self.clients, *(client.log for client in clients)]
        faults = judge(self.publications, connections, self.trims)
        assert not faults, "\n".join(map(str, faults))
        unnumbered = [p for p in self.publications if p.outcome == "committed" and p.position is None]
        assert not unnumbered


@pytest.fixture
def book() -> Book:
    return Book()


@pytest.fixture
def make_book() -> type[Book]:
    return Book
