"""What one client says and is sent, without a server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from twisted.web.http import Request
from twisted.web.test.requesthelper import DummyChannel

from django_sse.connection import SWEEP, Connection, Valve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class DaphneRequest(Request):
    def __init__(self) -> None:
        super().__init__(DummyChannel(), False)

    async def handle_reply(self, message: dict[str, Any]) -> None:
        """As daphne's: what its ``send`` is bound to."""


def test_a_client_that_left_before_its_stream_began_has_no_valve() -> None:
    request = DaphneRequest()
    request.channel = None  # what Twisted leaves when the connection is lost
    assert Valve.of(request.handle_reply) is None


class Body:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await asyncio.sleep(self.seconds)
        yield b"data: 1\n\n"

    def end(self) -> None:
        """Nobody leaves here."""


async def test_one_stream_may_follow_another_between_two_sweeps() -> None:
    sent: list[Any] = []
    patience = 1.0

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    for seconds in (0, 2 * SWEEP * patience):  # the second outlives the sweep of the first
        await Connection(receive, send).serve(Body(seconds), patience)
    assert [message["more_body"] for message in sent] == [True, False] * 2
