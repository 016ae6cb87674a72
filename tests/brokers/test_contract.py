"""What every broker does, whatever it is made of."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db.utils import ConnectionHandler

from django_sse.brokers import get_broker, postgres
from django_sse.brokers.base import Broker
from django_sse.brokers.channel_layer import ChannelLayerBroker
from django_sse.brokers.local import LocalBroker
from django_sse.brokers.postgres import PostgresBroker
from django_sse.brokers.redis import RedisBroker
from django_sse.census import PART
from tests.services import need_postgresql, need_redis
from tests.settings import POSTGRESQL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

LOCAL = (LocalBroker, {})
NETWORK = [
    (RedisBroker, {"ALIAS": "redis"}),
    (PostgresBroker, {"ALIAS": "doorbell"}),
    (ChannelLayerBroker, {"ALIAS": "default"}),
]
BROKERS = [LOCAL, *NETWORK]


class Hearing:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.rings = 0
        self.events: list[tuple[str, str, str]] = []
        self.announcements: list[dict[str, Any]] = []
        self.heard = asyncio.Event()
        self.threads: set[int] = set()

    def connected(self) -> None:
        self.doorbell()

    def doorbell(self) -> None:
        self.rings += 1
        self._hear()

    def ephemeral(self, channel: str, type: str, data: str) -> None:
        self.events.append((channel, type, data))
        self._hear()

    def announcement(self, announcement: dict[str, Any]) -> None:
        if "hub" not in announcement:
            raise ValueError("no hub's")
        self.announcements.append(announcement)
        self._hear()

    def _hear(self) -> None:
        self.threads.add(threading.get_ident())
        self.heard.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                self.heard.clear()
                await self.heard.wait()


def make(backend: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Broker:
    if backend in (RedisBroker, ChannelLayerBroker):
        need_redis()
    if backend is PostgresBroker:
        need_postgresql()
        databases = ConnectionHandler({"default": POSTGRESQL, "doorbell": POSTGRESQL})
        monkeypatch.setattr(postgres, "connections", databases)
    made: Broker = backend(options)
    return made


@pytest.fixture(params=BROKERS, ids=lambda param: param[0].__name__)
def broker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Broker:
    return make(*request.param, monkeypatch)


@pytest.fixture(params=NETWORK, ids=lambda param: param[0].__name__)
def two_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Broker, Broker]:
    """Two brokers that share nothing but their server."""
    return make(*request.param, monkeypatch), make(*request.param, monkeypatch)


@asynccontextmanager
async def listening(broker: Broker) -> AsyncIterator[Hearing]:
    """A listener that has been rung for every connection that it makes at the start."""
    hearing = Hearing()
    task = asyncio.create_task(broker.listen(hearing))
    try:
        # One for the process itself, one for the connection.
        await hearing.until(lambda: hearing.rings == 1 + broker.crosses_processes)
        yield hearing
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_listener_is_rung_when_it_begins_and_at_each_notify(broker: Broker) -> None:
    async with listening(broker) as hearing:
        before = hearing.rings
        broker.notify(1)
        await hearing.until(lambda: hearing.rings > before)


async def test_every_listener_hears_once(broker: Broker) -> None:
    async with listening(broker) as one, listening(broker) as other:
        broker.send("orders", "typing", '{"who":"Ann"}')
        broker.send("orders", "typing", '"é\u2028\\"')
        for hearing in (one, other):
            await hearing.until(lambda hearing=hearing: len(hearing.events) >= 2)
            assert hearing.events == [("orders", "typing", '{"who":"Ann"}'), ("orders", "typing", '"é\u2028\\"')]


async def test_every_listener_hears_an_announcement_once(broker: Broker) -> None:
    told = {"hub": "a", "streams": {"é": 1}, "all": True}
    async with listening(broker) as one, listening(broker) as other:
        broker.announce(told)
        broker.announce({"hub": "b"})
        for hearing in (one, other):
            await hearing.until(lambda hearing=hearing: len(hearing.announcements) >= 2)
            assert hearing.announcements == [told, {"hub": "b"}]


async def test_it_is_told_in_its_own_thread_whoever_rings(broker: Broker) -> None:
    async with listening(broker) as hearing:
        before = hearing.rings
        await asyncio.to_thread(broker.notify, 1)
        await hearing.until(lambda: hearing.rings > before)
        assert hearing.threads == {threading.get_ident()}


async def test_a_cancelled_listener_hears_nothing_more(broker: Broker) -> None:
    async with listening(broker) as gone:
        pass
    heard = gone.rings
    async with listening(broker) as hearing:
        broker.send("a", "message", "1")
        await hearing.until(lambda: len(hearing.events) == 1)
    assert gone.rings == heard
    assert gone.events == []


def test_nobody_listening_is_no_error(broker: Broker) -> None:
    broker.notify(1)
    broker.send("orders", "typing", "1")


async def test_another_process_hears_each_message_once(two_processes: tuple[Broker, Broker]) -> None:
    here, there = two_processes
    async with listening(here) as own, listening(there) as others:
        rings = others.rings
        here.notify(41)
        await others.until(lambda: others.rings > rings)
        here.send("orders", "typing", "1")
        there.send("orders", "typing", "2")
        for hearing in (own, others):
            await hearing.until(lambda hearing=hearing: len(hearing.events) >= 2)
            assert sorted(event[2] for event in hearing.events) == ["1", "2"]


async def test_another_process_hears_an_announcement_once(two_processes: tuple[Broker, Broker]) -> None:
    here, there = two_processes
    most = {f"{number:012}": 999_999 for number in range(PART)}
    async with listening(here) as own, listening(there) as others:
        here.announce({"hub": "a" * 32, "streams": most, "all": True, "ask": True})
        there.announce({"hub": "b" * 32})
        for hearing in (own, others):
            await hearing.until(lambda hearing=hearing: len(hearing.announcements) >= 2)
            assert sorted(one["hub"][0] for one in hearing.announcements) == ["a", "b"]
            assert {"a" * 32: most, "b" * 32: None} == {one["hub"]: one.get("streams") for one in hearing.announcements}


async def test_a_burst_of_positions_is_one_ring_or_few(two_processes: tuple[Broker, Broker]) -> None:
    here, there = two_processes
    async with listening(there) as others:
        before = others.rings
        for position in range(1000):
            here.notify(position)
        here.send("a", "message", "last")
        await others.until(lambda: len(others.events) == 1 and others.rings > before)
        assert others.rings - before < 500


async def test_strangers_words_are_ignored(two_processes: tuple[Any, Any], caplog: pytest.LogCaptureFixture) -> None:
    here, there = two_processes
    async with listening(there) as others:
        words = [
            "41",
            "not json",
            "{}",
            "[]",
            '["x","no spaces","t","d"]',
            '["x","a","forged\\ntype","d"]',
            '["x","a",1,"d"]',
            '["x","a","sse.close","{}"]',
            '["x","a","t","d","more"]',
            '["x",{"streams":{}}]',
            "[" * 7000,
        ]
        for word in words:
            await asyncio.to_thread(here._publish, word)
        here.send("a", "message", "1")
        await others.until(lambda: len(others.events) >= 1)
        assert others.events == [("a", "message", "1")]
    assert sum("did not write" in record.getMessage() for record in caplog.records) == len(words)


def test_a_loop_that_was_closed_is_no_error_for_the_publisher() -> None:
    broker = LocalBroker({})
    loop = asyncio.new_event_loop()
    hearing = Hearing()
    task = loop.create_task(broker.listen(hearing))
    loop.run_until_complete(hearing.until(lambda: hearing.rings == 1))
    broker._listeners.add((loop, hearing))
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()
    broker._listeners.add((loop, hearing))
    broker.notify(1)
    assert broker._listeners == set()


@pytest.mark.parametrize("backend", [backend for backend, _ in BROKERS])
def test_every_broker_has_exactly_the_public_methods_of_the_base(backend: Any) -> None:
    def public(kind: Any) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(backend) == public(Broker) | {"crosses_processes"}
    assert isinstance(backend.crosses_processes, bool)


def test_one_broker_serves_the_process_until_the_setting_changes(settings: Any) -> None:
    first = get_broker()
    assert get_broker() is first
    settings.DJANGO_SSE = {}
    assert get_broker() is not first
