"""A listener is cancelled once, and ends, also where what it waits in swallows that."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from channels.layers import InMemoryChannelLayer

from django_sse.brokers import channel_layer
from django_sse.brokers.channel_layer import ChannelLayerBroker
from django_sse.brokers.local import LocalBroker
from django_sse.hub import Hub
from tests.brokers.test_contract import Hearing, listening
from tests.security.waiting import until
from tests.services import need_redis

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from django_sse.brokers.base import Listener


class Swallowing(InMemoryChannelLayer):
    """Goes on where it is cancelled, once in each of ``swallows``, as redis-py may on Python 3.11."""

    swallows: ClassVar[list[str]] = []
    waits: ClassVar[asyncio.Event]

    async def new_channel(self, prefix: str = "specific.") -> str:
        return await self._answer("new_channel", super().new_channel(prefix))

    async def send(self, channel: str, message: Any) -> None:
        await self._answer("send", super().send(channel, message))

    async def receive(self, channel: str) -> Any:
        await self._answer("receive", asyncio.sleep(0))
        return await super().receive(channel)

    async def _answer(self, name: str, answer: Awaitable[Any]) -> Any:
        if name in self.swallows:
            self.swallows.remove(name)
            self.waits.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
        return await answer


@pytest.mark.parametrize("swallows", ["new_channel", "send", "receive"])
async def test_one_that_is_cancelled_ends(swallows: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.Swallowing"}}
    monkeypatch.setattr(channel_layer, "PING_AFTER", 0.1)
    monkeypatch.setattr(Swallowing, "swallows", [swallows])
    monkeypatch.setattr(Swallowing, "waits", asyncio.Event(), raising=False)
    before = asyncio.all_tasks()
    task = asyncio.create_task(ChannelLayerBroker({}).listen(Hearing()))
    async with asyncio.timeout(20):
        await Swallowing.waits.wait()
    task.cancel()
    await asyncio.wait([task], timeout=20)
    assert task.cancelled()
    await until(lambda: not asyncio.all_tasks() - before)


async def test_a_quiet_layer_is_no_broken_one(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """channels_redis and redis-py each give up after 5 s in which nothing came."""
    need_redis()
    pings = 0
    pinged = asyncio.Event()
    broker = ChannelLayerBroker({"ALIAS": "default"})
    layer: Any = type(broker._layer)
    send = layer.send

    async def send_and_count(self: Any, channel: str, message: Any) -> None:
        nonlocal pings
        await send(self, channel, message)
        pings += 1
        if pings == 3:
            pinged.set()

    monkeypatch.setattr(layer, "send", send_and_count)
    with caplog.at_level(logging.INFO, "django_sse"):
        async with listening(broker) as hearing:
            rings = hearing.rings
            async with asyncio.timeout(60):
                await pinged.wait()
            assert hearing.rings == rings, "it has connected again"
    assert not caplog.records


class Tidying(LocalBroker):
    """Has something to do yet when it is cancelled."""

    did: ClassVar[list[str]] = []

    async def listen(self, listener: Listener) -> None:
        self.did.append("listens")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            self.did.append("tidied")


async def test_its_tidying_is_not_cut_short_where_all_tasks_are_cancelled() -> None:
    """As at the end of ``asyncio.run``."""
    Tidying.did.clear()
    before = asyncio.all_tasks()
    Hub(Tidying({}))
    await until(lambda: Tidying.did)
    mine = asyncio.all_tasks() - before
    for task in sorted(mine, key=lambda task: task.get_name() == "django_sse hub"):  # it comes when that one tidies
        task.cancel()
    await asyncio.wait(mine, timeout=20)
    assert Tidying.did == ["listens", "tidied"]
