"""Requests that are never finished, or take long to answer, against a real server: streams go on being opened."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.live.client import Client
from tests.security.conftest import SETTINGS
from tests.server import serve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.live.database import Database
    from tests.server import Server

HEAD = "{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
HALVES = {
    "half a head": HEAD.format("GET", "/events/?channel=public.a"),
    "a GET without its body": HEAD.format("GET", "/events/?channel=public.a") + "Content-Length: 10\r\n\r\n",
    "a POST without its body": HEAD.format("POST", "/in/") + "Content-Length: 10\r\n\r\n12345",
    "a POST that takes long": HEAD.format("POST", "/slow/") + "Content-Length: 0\r\n\r\n",
    "a GET that takes long": HEAD.format("GET", "/slow/") + "\r\n",
}


@pytest.fixture(scope="module")
def server(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {**database.env, "LIVE_SSE": "{}"}
    with serve("uvicorn", SETTINGS, tmp_path_factory.mktemp("slow") / "server.log", env) as server:
        yield server


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
def test_streams_open_beside_them(server: Server, half: str) -> None:
    """More of them than ``MAX_OPENING``, which is 6."""
    with ExitStack() as stack:
        for _ in range(8):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            one.sendall(half.encode())
        for number in range(3):
            Client(server, ["public.a"], name=f"client {number}").opened().leave()
