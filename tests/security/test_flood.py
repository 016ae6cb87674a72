"""One user who opens streams without end, against a real server: the limit holds, and others connect."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.live.client import Client
from tests.security.conftest import SETTINGS, log_in
from tests.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.live.database import Database
    from tests.server import Server

MOST = 5


@pytest.fixture(scope="module")
def server(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {**database.env, "LIVE_SSE": json.dumps({"MAX_STREAMS_PER_USER": MOST})}
    with serve("uvicorn", SETTINGS, tmp_path_factory.mktemp("flood") / "server.log", env) as server:
        yield server


def test_another_user_connects(server: Server) -> None:
    ann, bob = log_in(server), log_in(server)
    with ExitStack() as stack:
        flood = []
        for number in range(100):
            one = Client(server, ann.channels[:1], name=f"number {number} of ann", headers=ann.headers)
            stack.callback(one.leave)
            flood.append(one)
        for number in range(3):
            other = Client(server, bob.channels[:1], name=f"number {number} of bob", headers=bob.headers).opened()
            stack.callback(other.leave)
        for one in flood:
            one.until(lambda one=one: one.parser.id or one.ended, "it is open, or told to wait")
        assert sum(bool(one.parser.id) for one in flood) == MOST
        waiting = [one for one in flood if not one.parser.id]
        assert {one.status for one in waiting} == {200}, "any other ends an EventSource for good"
        assert all(30_000 <= int(one.body.split()[1]) <= 90_000 for one in waiting)
