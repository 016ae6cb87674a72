"""Moments between two statements, held open: what a schedule meets once in thousands happens here every time."""

from __future__ import annotations

import asyncio

import pytest
from asgiref.sync import sync_to_async

from django_sse import log, send_events
from django_sse.hub import Hub
from django_sse.stream import Stream
from tests.checker import Connection, Parser, Publication, judge
from tests.live.client import arrival
from tests.server import DEADLINE

pytestmark = pytest.mark.django_db(transaction=True)


def publish(count: int) -> list[Publication]:
    events = send_events([{"channel": "a", "text": f"e{number}"} for number in range(count)])
    return [Publication("a", event.data, "committed", position=event.position) for event in events]


async def read(stream: Stream, connection: Connection, upto: int) -> None:
    """Write down what ``stream`` sends until its id is ``upto``."""
    parser = Parser()
    async with asyncio.timeout(DEADLINE):
        body = aiter(stream)
        while not connection.arrivals or connection.arrivals[-1].id < upto:
            for block in parser.feed(await anext(body)):
                if block.id:
                    connection.arrivals.append(arrival(block))
        await body.aclose()


async def test_an_event_that_comes_during_an_empty_replay_does_not_wait_for_the_heartbeat(monkeypatch, settings):
    """The ring moves on while the log is asked: nobody sleeps to whom that wake-up was for."""
    settings.DJANGO_SSE = {"RING_SIZE": 1, "POLL_INTERVAL": 0.05, "HEARTBEAT": 3600}
    start = (await sync_to_async(log.reach)()).head
    stream = await Stream.open(["a"], start)
    await sync_to_async(send_events)([("b", None, 1), ("b", None, 2)])
    await Hub.current().catch_up()
    replay = Hub.replay
    made = []

    async def overtaken(self, *args):
        page = await replay(self, *args)
        if not made:
            made.extend(await sync_to_async(publish)(1))
            await self.catch_up()
        return page

    monkeypatch.setattr(Hub, "replay", overtaken)
    connected = Connection("client", frozenset({"a"}), start, settled=1)
    await read(stream, connected, start + 3)
    assert judge(made, [connected]) == []
