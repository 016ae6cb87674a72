"""What one client says and is sent, without a server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from twisted.web.http import Request
from twisted.web.test.requesthelper import DummyChannel

from django_sse import connection
from django_sse.connection import SWEEP, Connection, Valve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


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
    writer: Callable[[bytes], bool] | None = None

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


class Server:
    """Whose ``send`` waits for a client that has no room, as those do that may be stepped."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.room = asyncio.Event()
        self.room.set()
        self.error: Exception | None = None
        self.gone = asyncio.Event()

    async def send(self, message: Any) -> None:
        if not self.room.is_set():
            await self.room.wait()
        if self.error:
            raise self.error
        self.sent.append(message["body"] if message["more_body"] else b"end")

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}


class Waiting:
    """A body that has nothing until it is told, and then writes past the one who waits for it."""

    writer: Callable[[bytes], bool] | None = None

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while data := await self.pieces.get():
            yield data

    def end(self) -> None:
        self.ended = True
        self.pieces.put_nowait(b"")

    def write(self, data: bytes) -> bool:
        assert self.writer
        return self.writer(data)


@pytest.fixture
def stepped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any server be one that is known."""
    monkeypatch.setattr(connection, "can_step", lambda send: True)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.usefixtures("stepped")
async def test_a_body_may_write_while_it_is_waited_for() -> None:
    server, body = Server(), Waiting()
    serving = asyncio.create_task(Connection(server.receive, server.send).serve(body, 10))
    await settle()
    assert body.write(b"1")
    assert server.sent == [b"1"], "it went out at once"
    body.pieces.put_nowait(b"2")
    await settle()
    assert body.write(b"3")
    body.end()
    await serving
    assert server.sent == [b"1", b"2", b"3", b"end"]
    assert body.writer is None, "nothing of the connection is kept"


@pytest.mark.usefixtures("stepped")
async def test_what_has_no_room_goes_before_what_comes_later() -> None:
    server, body = Server(), Waiting()
    serving = asyncio.create_task(Connection(server.receive, server.send).serve(body, 10))
    await settle()
    server.room.clear()
    assert body.write(b"1"), "it is taken"
    assert not body.write(b"2"), "and no other before it has gone"
    body.pieces.put_nowait(b"2")
    await settle()
    assert server.sent == []
    server.room.set()
    await settle()
    assert server.sent == [b"1", b"2"]
    assert body.write(b"3")
    body.end()
    await serving
    assert server.sent == [b"1", b"2", b"3", b"end"]


@pytest.mark.usefixtures("stepped")
async def test_a_piece_that_never_gets_room_ends_the_connection() -> None:
    server, body = Server(), Waiting()
    serving = asyncio.create_task(Connection(server.receive, server.send).serve(body, 0.05))
    await settle()
    server.room.clear()
    assert body.write(b"1")
    await asyncio.wait_for(serving, 10)
    server.room.set()
    await settle()
    assert server.sent == [], "what was given up is not written any more"


@pytest.mark.usefixtures("stepped")
@pytest.mark.parametrize("room", [True, False], ids=["at once", "later"])
async def test_a_client_that_left_while_it_was_written_to_ends_its_body(room: bool) -> None:
    server, body = Server(), Waiting()
    serving = asyncio.create_task(Connection(server.receive, server.send).serve(body, 10))
    await settle()
    if not room:
        server.room.clear()
    server.error = BrokenPipeError()
    body.write(b"1")
    server.room.set()
    await asyncio.wait_for(serving, 10)
    assert body.ended


@pytest.mark.usefixtures("stepped")
async def test_what_the_server_raises_reaches_the_server() -> None:
    server, body = Server(), Waiting()
    serving = asyncio.create_task(Connection(server.receive, server.send).serve(body, 10))
    await settle()
    server.error = RuntimeError("a bug of the server")
    assert body.write(b"1")
    assert not body.write(b"2"), "nothing follows what was lost"
    with pytest.raises(RuntimeError, match="a bug of the server"):
        await asyncio.wait_for(serving, 10)


@pytest.mark.usefixtures("stepped")
async def test_nothing_is_written_to_a_client_that_has_left() -> None:
    server, body = Server(), Waiting()
    serving = asyncio.create_task(Connection(server.receive, server.send).serve(body, 10))
    await settle()
    server.gone.set()
    await asyncio.wait_for(serving, 10)
    assert body.ended
    assert server.sent == []


async def test_without_a_known_server_a_body_is_only_read() -> None:
    server, body = Server(), Waiting()
    serving = asyncio.create_task(Connection(server.receive, server.send).serve(body, 10))
    await settle()
    assert body.writer is None
    body.pieces.put_nowait(b"1")
    body.end()
    await serving
    assert server.sent == [b"1", b"end"]


class Failing:
    """A body that fails as a service that it asks may."""

    writer: Callable[[bytes], bool] | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"1"
        raise TimeoutError("the model fell silent")

    def end(self) -> None:
        """It ends by itself."""


class Transport:
    aborted = False

    def abort(self) -> None:
        self.aborted = True


async def test_a_body_that_fails_is_no_client_that_left(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.transport = Transport()  # type: ignore[attr-defined]
    server.gone.set()  # heard once the connection is cut
    connection = Connection(server.receive, server.send)
    await asyncio.wait_for(connection.serve(Failing(), 10), 10)
    assert server.transport.aborted  # type: ignore[attr-defined]
    assert server.sent == [b"1"], "no end that would say that it is whole"
    assert "the model fell silent" in caplog.text


async def test_where_nothing_can_be_cut_the_server_is_told_of_a_body_that_fails() -> None:
    server = Server()
    with pytest.raises(TimeoutError, match="the model fell silent"):
        await asyncio.wait_for(Connection(server.receive, server.send).serve(Failing(), 10), 10)
    assert server.sent == [b"1"]


async def test_an_end_that_has_no_room_is_given_up() -> None:
    server, body = Server(), Waiting()
    serving = asyncio.create_task(Connection(server.receive, server.send).serve(body, 0.05))
    await settle()
    server.room.clear()
    body.end()
    await asyncio.wait_for(serving, 10)
    assert server.sent == []


async def test_an_end_for_a_client_that_does_not_read_does_not_keep_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """hypercorn cancels once, and then waits."""
    monkeypatch.setattr(connection, "LAST_WORDS", 0.05)
    server, body = Server(), Waiting()
    serving = asyncio.create_task(Connection(server.receive, server.send).serve(body, 1000))
    await settle()
    server.room.clear()
    body.pieces.put_nowait(b"1")
    await settle()
    serving.cancel()
    await asyncio.wait([serving], timeout=10)
    assert serving.cancelled()


async def test_a_stream_that_ends_is_no_producer_any_more() -> None:
    """Twisted takes that for a mistake, and logs it with the whole URL."""
    request = DaphneRequest()
    await Connection(Server().receive, request.handle_reply).serve(Body(0), 10)
    assert request.producer is None


async def test_nor_is_one_that_the_server_has_cancelled() -> None:
    request = DaphneRequest()
    serving = asyncio.create_task(Connection(Server().receive, request.handle_reply).serve(Waiting(), 10))
    await settle()
    assert request.producer is not None
    serving.cancel()
    await asyncio.wait([serving], timeout=10)
    assert request.producer is None
