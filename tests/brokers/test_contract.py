"""What every broker does, whatever it is made of."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from django_sse.brokers import get_broker
from django_sse.brokers.base import Broker
from django_sse.brokers.local import LocalBroker

BROKERS = [(LocalBroker, {})]


class Hearing:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.rings = 0
        self.events: list[tuple[str, str, str]] = []
        self.heard = asyncio.Event()
        self.threads: set[int] = set()

    def doorbell(self) -> None:
        self.rings += 1
        self._hear()

    def ephemeral(self, channel: str, type: str, data: str) -> None:
        self.events.append((channel, type, data))
        self._hear()

    def _hear(self) -> None:
        self.threads.add(threading.get_ident())
        self.heard.set()

    async def next(self) -> None:
        async with asyncio.timeout(10):
            await self.heard.wait()
        self.heard.clear()


@pytest.fixture(params=BROKERS, ids=lambda param: param[0].__name__)
def broker(request: pytest.FixtureRequest) -> Broker:
    backend, options = request.param
    return backend(options)


async def test_a_listener_is_rung_when_it_begins_and_at_each_notify(broker: Broker) -> None:
    hearing = Hearing()
    task = asyncio.create_task(broker.listen(hearing))
    await hearing.next()
    broker.notify(1)
    await hearing.next()
    assert hearing.rings == 2
    task.cancel()


async def test_every_listener_hears(broker: Broker) -> None:
    hearings = [Hearing(), Hearing()]
    tasks = [asyncio.create_task(broker.listen(hearing)) for hearing in hearings]
    for hearing in hearings:
        await hearing.next()
    broker.send("orders", "typing", '{"who":"Ann"}')
    for hearing in hearings:
        await hearing.next()
        assert hearing.events == [("orders", "typing", '{"who":"Ann"}')]
    for task in tasks:
        task.cancel()


async def test_it_is_told_in_its_own_thread_whoever_rings(broker: Broker) -> None:
    hearing = Hearing()
    task = asyncio.create_task(broker.listen(hearing))
    await hearing.next()
    await asyncio.to_thread(broker.notify, 1)
    await hearing.next()
    assert hearing.threads == {threading.get_ident()}
    task.cancel()


async def test_a_cancelled_listener_hears_nothing_more(broker: Broker) -> None:
    hearing, other = Hearing(), Hearing()
    task = asyncio.create_task(broker.listen(hearing))
    await hearing.next()
    task.cancel()
    await asyncio.wait([task])
    listening = asyncio.create_task(broker.listen(other))
    await other.next()
    broker.notify(1)
    await other.next()
    assert hearing.rings == 1
    listening.cancel()


def test_nobody_listening_is_no_error(broker: Broker) -> None:
    broker.notify(1)
    broker.send("orders", "typing", "1")


def test_a_loop_that_was_closed_is_no_error_for_the_publisher() -> None:
    broker = LocalBroker({})
    loop = asyncio.new_event_loop()
    hearing = Hearing()
    task = loop.create_task(broker.listen(hearing))
    loop.run_until_complete(hearing.next())
    broker._listeners.add((loop, hearing))
    task.cancel()
    loop.run_until_complete(asyncio.wait([task]))
    loop.close()
    broker._listeners.add((loop, hearing))
    broker.notify(1)
    assert broker._listeners == set()


def test_every_broker_has_exactly_the_public_methods_of_the_base() -> None:
    def public(backend: Any) -> set[str]:
        return {name for name in dir(backend) if not name.startswith("_")}

    for backend, _ in BROKERS:
        assert public(backend) == public(Broker) | {"crosses_processes"}
        assert isinstance(backend.crosses_processes, bool)


def test_one_broker_serves_the_process_until_the_setting_changes(settings: Any) -> None:
    first = get_broker()
    assert get_broker() is first
    settings.DJANGO_SSE = {}
    assert get_broker() is not first
