"""Calling a server's ``send`` without a task: the real one of uvicorn, on a transport that says when it is full."""

from __future__ import annotations

import asyncio
import logging
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest
from uvicorn.protocols.http import h11_impl, httptools_impl
from uvicorn.protocols.http.flow_control import FlowControl

from django_sse.stepper import KNOWN, can_step, step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

START = {"type": "http.response.start", "status": 200, "headers": []}


def piece(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


class Transport:
    """What uvicorn writes to."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def pause_reading(self) -> None:
        """Nobody sends here."""

    resume_reading = pause_reading


@pytest.fixture
def transport() -> Transport:
    return Transport()


@pytest.fixture
def flow(transport: Transport) -> FlowControl:
    return FlowControl(transport)  # type: ignore[arg-type]


@pytest.fixture
def cycle(transport: Transport, flow: FlowControl) -> Any:
    """uvicorn's own object of one response, in the middle of a body."""
    return httptools_impl.RequestResponseCycle(
        scope={"type": "http", "method": "GET"},  # type: ignore[arg-type,typeddict-item]
        transport=transport,  # type: ignore[arg-type]
        flow=flow,
        logger=logging.getLogger("test"),
        access_logger=logging.getLogger("test"),
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )


def test_the_known_classes_are_those_of_the_installed_server() -> None:
    found = {h11_impl.RequestResponseCycle, httptools_impl.RequestResponseCycle}
    assert {f"{one.__module__}.{one.__qualname__}" for one in found} == KNOWN


async def test_uvicorns_own_send_may_be_stepped(cycle: Any) -> None:
    assert can_step(cycle.send)


async def test_nothing_else_may(cycle: Any) -> None:
    class Other:
        async def send(self, message: Any) -> None:
            """Of a server that nobody has tried."""

    class Wrapped(httptools_impl.RequestResponseCycle):
        async def send(self, message: Any) -> None:
            async with asyncio.timeout(1):
                await super().send(message)

    async def middleware(message: Any) -> None:
        await cycle.send(message)

    wrapped = object.__new__(Wrapped)
    others: list[Callable[[Any], Awaitable[None]]] = [Other().send, middleware, wrapped.send, cycle.receive]
    assert [can_step(send) for send in others] == [False] * 4


async def test_a_wrapped_method_is_not_the_servers_own(cycle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an agent that watches an application does it, which copies the names of what it wraps."""
    send = type(cycle).send

    @wraps(send)
    async def watched(self: Any, message: Any) -> None:
        await send(self, message)

    monkeypatch.setattr(type(cycle), "send", watched)
    assert not can_step(cycle.send)


async def test_what_the_client_has_room_for_is_written_at_once(cycle: Any, transport: Transport) -> None:
    await cycle.send(START)
    transport.written = b""
    assert step(cycle.send, piece(b"data: 1\n\n")) is None
    assert transport.written == b"9\r\ndata: 1\n\n\r\n"


async def test_what_it_has_no_room_for_is_written_when_it_has(
    cycle: Any, transport: Transport, flow: FlowControl
) -> None:
    await cycle.send(START)
    transport.written = b""
    flow.pause_writing()
    rest = step(cycle.send, piece(b"data: 1\n\n"))
    assert rest is not None
    await asyncio.sleep(0)
    assert not rest.done()
    assert transport.written == b""
    flow.resume_writing()
    await rest
    assert transport.written == b"9\r\ndata: 1\n\n\r\n"


async def test_what_waits_can_be_given_up(cycle: Any, transport: Transport, flow: FlowControl) -> None:
    await cycle.send(START)
    transport.written = b""
    flow.pause_writing()
    rest = step(cycle.send, piece(b"data: 1\n\n"))
    assert rest is not None
    rest.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rest
    flow.resume_writing()
    assert transport.written == b""


async def test_what_send_raises_is_raised(cycle: Any) -> None:
    with pytest.raises(RuntimeError, match=r"http\.response\.start"):
        step(cycle.send, piece(b"before the start"))
