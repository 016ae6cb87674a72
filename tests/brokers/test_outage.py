"""A server that is down, refuses, is silent or flaps: publishers do not notice, listeners come back."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

import psycopg
import pytest
from channels.layers import InMemoryChannelLayer
from django.core.cache.backends.base import InvalidCacheBackendError
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.utils import ConnectionHandler
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from django_sse import asend_event, publish
from django_sse.brokers import channel_layer, network, postgres, redis
from django_sse.brokers.channel_layer import ChannelLayerBroker
from django_sse.brokers.postgres import PostgresBroker
from django_sse.brokers.redis import RedisBroker
from django_sse.exceptions import InvalidEvent
from tests.brokers.test_contract import listening
from tests.proxy import Proxy, proxy_to
from tests.security.waiting import until
from tests.services import need_postgresql, need_redis
from tests.settings import POSTGRESQL, REDIS_URL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_sse.brokers.base import Broker


@pytest.fixture
def redis_proxy() -> Iterator[Proxy]:
    need_redis()
    url = urlsplit(REDIS_URL)
    with proxy_to(url.hostname or "127.0.0.1", url.port or 6379) as proxy:
        yield proxy


@pytest.fixture
def postgresql_proxy() -> Iterator[Proxy]:
    need_postgresql()
    with proxy_to(POSTGRESQL["HOST"], int(POSTGRESQL["PORT"])) as proxy:
        yield proxy


@pytest.fixture(params=["redis", "redis_of_a_cache", "postgres", "channel_layer", "pubsub"])
def outage(
    request: pytest.FixtureRequest, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[Proxy, Broker, Broker]:
    """The proxy in front of a real server, and the brokers of two processes that go through it."""
    for module in (network, redis, postgres, channel_layer):
        for name in ("PING_AFTER", "PING_DEADLINE", "LONGEST_PAUSE"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, 0.3)
    monkeypatch.setattr(redis, "TIMEOUT", 0.5)
    proxy: Proxy = request.getfixturevalue("postgresql_proxy" if request.param == "postgres" else "redis_proxy")
    url = f"redis://127.0.0.1:{proxy.port}/0"
    if request.param.startswith("redis"):
        cache: dict[str, Any] = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": url}
        if request.param == "redis_of_a_cache":
            patience = {"socket_timeout": 60, "socket_connect_timeout": 60, "retry": Retry(ConstantBackoff(60), 3)}
            cache["OPTIONS"] = {"CONNECTION_POOL_KWARGS": {**patience, "decode_responses": True}}
        settings.CACHES = {"proxied": cache}
        return proxy, RedisBroker({"ALIAS": "proxied"}), RedisBroker({"ALIAS": "proxied"})
    if request.param == "postgres":
        through = {**POSTGRESQL, "HOST": "127.0.0.1", "PORT": str(proxy.port)}
        monkeypatch.setattr(postgres, "connections", ConnectionHandler({"default": through}))
        monkeypatch.setattr(postgres, "TIMEOUTS", {**postgres.TIMEOUTS, "connect_timeout": 2, "tcp_user_timeout": 500})
        return proxy, PostgresBroker({}), PostgresBroker({})
    backend = {"channel_layer": "core.RedisChannelLayer", "pubsub": "pubsub.RedisPubSubChannelLayer"}[request.param]
    layer = {"BACKEND": f"channels_redis.{backend}", "CONFIG": {"hosts": [url], "prefix": "outage"}}
    settings.CHANNEL_LAYERS = {"proxied": layer}
    return proxy, ChannelLayerBroker({"ALIAS": "proxied"}), ChannelLayerBroker({"ALIAS": "proxied"})


async def carried(here: Broker, hearing: Any) -> None:
    """Send until it is heard: what was sent during the outage may be lost, what comes after may not be for long."""
    before = len(hearing.events)
    async with asyncio.timeout(30):
        while len(hearing.events) == before:
            here.send("a", "message", "1")
            hearing.heard.clear()
            try:
                async with asyncio.timeout(0.3):
                    await hearing.heard.wait()
            except TimeoutError:
                pass


@pytest.mark.parametrize("fault", ["refuse", "go_silent", "strand", "cut"])
async def test_it_comes_back_and_rings_by_itself(
    outage: tuple[Proxy, Broker, Broker], fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    proxy, here, there = outage
    async with listening(there) as hearing:
        await carried(here, hearing)
        rings = hearing.rings
        caplog.clear()  # on a slow machine a ping may have been late already
        getattr(proxy, fault)()
        here.notify(1)
        here.send("a", "message", "lost or late")
        if fault != "cut":
            await until(lambda: "cannot be heard" in caplog.text)
            if fault == "go_silent":
                proxy.cut()
            proxy.accept()
        if fault != "cut" or not isinstance(there, ChannelLayerBroker):
            # A layer that is cut and comes back at once mends itself without telling.
            await hearing.until(lambda: hearing.rings > rings)
        await carried(here, hearing)
    said = [record.getMessage() for record in caplog.records if "cannot be heard" in record.getMessage()]
    assert len(said) <= 1, "once per outage"


@pytest.mark.parametrize("outage", ["postgres"], indirect=True)
async def test_a_connection_that_dies_between_login_and_listen_is_given_up(
    outage: tuple[Proxy, Broker, Broker], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, here, there = outage
    connect, made = psycopg.AsyncConnection.connect, []

    async def connect_and_lose(**parameters: Any) -> Any:
        made.append(await connect(**parameters))
        if len(made) == 1:
            proxy.strand()
        return made[-1]

    monkeypatch.setattr(psycopg.AsyncConnection, "connect", connect_and_lose)
    async with listening(there) as hearing:
        await carried(here, hearing)
    assert len(made) > 1


@pytest.mark.parametrize("outage", ["channel_layer", "pubsub"], indirect=True)
async def test_a_layer_that_is_given_up_leaves_nothing_open(outage: tuple[Proxy, Any, Any]) -> None:
    proxy, _, there = outage
    tasks = len(asyncio.all_tasks())
    for _ in range(3):
        async with aclosing(there._messages()) as messages:
            assert await anext(messages) == ""
    await until(lambda: not proxy.open and len(asyncio.all_tasks()) <= tasks)


class Lingering(InMemoryChannelLayer):
    """Has something to do yet when it is told to receive no more."""

    did: ClassVar[list[str]] = []

    async def receive(self, channel: str) -> Any:
        self.did.append("receives")
        try:
            return await super().receive(channel)
        finally:
            await asyncio.sleep(0.05)
            self.did.append("has received")

    async def close_pools(self) -> None:
        self.did.append("is closed")


async def test_a_layer_is_closed_once_it_receives_no_more(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.Lingering"}}
    Lingering.did.clear()
    messages = ChannelLayerBroker({})._messages()
    assert await anext(messages) == ""
    hearing = asyncio.ensure_future(anext(messages))
    await until(lambda: Lingering.did)
    hearing.cancel()
    await asyncio.wait([hearing])
    assert Lingering.did == ["receives", "has received", "is closed"]


async def test_it_survives_flapping(outage: tuple[Proxy, Broker, Broker]) -> None:
    proxy, here, there = outage
    async with listening(there) as hearing:
        for _ in range(10):
            proxy.refuse()
            proxy.accept()
        await carried(here, hearing)


async def test_down_at_the_start_it_is_picked_up_when_it_appears(outage: tuple[Proxy, Broker, Broker]) -> None:
    proxy, here, there = outage
    proxy.refuse()
    from tests.brokers.test_contract import Hearing

    hearing = Hearing()
    task = asyncio.create_task(there.listen(hearing))
    await hearing.until(lambda: hearing.rings == 1)  # the process itself needs no server
    proxy.accept()
    await hearing.until(lambda: hearing.rings == 2)
    await carried(here, hearing)
    task.cancel()
    await asyncio.wait([task])


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("fault", ["refuse", "go_silent"])
async def test_publishing_neither_fails_nor_waits(
    outage: tuple[Proxy, Broker, Broker], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by the clock: what may wait for the server is called in one thread, which is no publisher's."""
    proxy, here, _ = outage
    getattr(proxy, fault)()
    threads: list[str] = []
    tell: Any = here._publish  # type: ignore[attr-defined]

    def note_and_tell(message: str) -> None:
        threads.append(threading.current_thread().name)
        tell(message)

    monkeypatch.setattr(here, "_publish", note_and_tell)
    monkeypatch.setattr(publish, "get_broker", lambda: here)
    for number in range(20):
        event = await asend_event("a", None, number)
        assert event is not None
        assert event.position == number + 1
        assert await asend_event("a", None, number, store=False) is None
    await until(lambda: threads)
    assert set(threads) == {"django_sse ringer"}


def test_after_a_notify_that_postgresql_refuses_the_next_goes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    need_postgresql()
    monkeypatch.setattr(postgres, "connections", ConnectionHandler({"default": POSTGRESQL}))
    broker = PostgresBroker({})
    with pytest.raises(psycopg.Error, match="payload string too long"):
        broker._publish("x" * (postgres.MAX_BYTES + 1))
    broker._publish("x" * postgres.MAX_BYTES)


def test_a_ringer_that_fails_says_what_was_lost(caplog: pytest.LogCaptureFixture) -> None:
    from django_sse.brokers.ringer import Ringer

    told: list[Any] = []
    failing = threading.Event()
    failing.set()

    def tell(message: int | str) -> None:
        if failing.is_set():
            raise ConnectionError("down")
        told.append(message)

    ringer = Ringer(tell)
    with caplog.at_level(logging.WARNING):
        ringer.ring(1)
        ringer._say_farewell()
        ringer.ring(2)
        ringer._say_farewell()
        assert caplog.text.count("ephemeral events lost: 0") == 1, "once per outage"
        ringer.send("a")
        ringer._say_farewell()
        assert "ephemeral events lost: 1" in caplog.text
    failing.clear()
    ringer.send("b")
    ringer.ring(4)
    ringer.ring(3)
    ringer._say_farewell()
    assert told[0] == "b"
    assert told[-1] == 4


def test_a_thread_that_cannot_be_started_is_not_the_publishers_concern(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from django_sse.brokers.ringer import Ringer

    told: list[Any] = []
    ringer = Ringer(told.append)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        ringer.ring(1)
        ringer.send("a")
    assert [record.getMessage() for record in caplog.records] == [
        """The broker cannot be told, for its thread cannot be started: RuntimeError("can't start new thread")"""
    ]
    ringer.ring(2)
    ringer._say_farewell()
    assert told == ["a", 2]


def test_a_forked_child_rings_with_a_thread_of_its_own() -> None:
    from django_sse.brokers.ringer import Ringer

    told: list[Any] = []
    ringer = Ringer(told.append)
    ringer.ring(1)
    ringer._say_farewell()
    ringer._forget()  # what os.register_at_fork calls in a child, where no thread of the parent runs
    ringer.ring(2)
    ringer._say_farewell()
    assert told == [1, 2]


class TestConfiguration:
    def test_redis_needs_a_cache_of_django_redis(self, settings: Any) -> None:
        for alias in ("default", "nothing"):
            with pytest.raises(ImproperlyConfigured, match="not one of django-redis") as caught:
                RedisBroker({"ALIAS": alias})
            assert isinstance(caught.value.__cause__, AttributeError | InvalidCacheBackendError)

    def test_postgres_needs_postgresql(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(ImproperlyConfigured, match="ALIAS"):
            PostgresBroker({"ALIAS": "nothing"})
        if connection.vendor != "postgresql":
            with pytest.raises(ImproperlyConfigured, match=f"is {connection.vendor}, not PostgreSQL"):
                PostgresBroker({})

    def test_a_channel_layer_must_be_there(self, settings: Any) -> None:
        with pytest.raises(ImproperlyConfigured, match="CHANNEL_LAYERS"):
            ChannelLayerBroker({"ALIAS": "nothing"})
        settings.CHANNEL_LAYERS = {"broken": {"BACKEND": "channels.nothing.Layer"}}
        with pytest.raises(ImproperlyConfigured, match="broken"):
            ChannelLayerBroker({"ALIAS": "broken"})

    def test_an_ephemeral_event_must_fit_into_a_notify(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(postgres, "connections", ConnectionHandler({"default": POSTGRESQL}))
        broker = PostgresBroker({})
        monkeypatch.setattr(publish, "get_broker", lambda: broker)
        publish.send_event("a", None, "x" * 7000, store=False)
        with pytest.raises(InvalidEvent, match="carries 7999"):
            publish.send_event("a", None, "x" * 8000, store=False)
