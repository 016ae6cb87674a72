"""What one client can take: streams, channels, replay. Over a limit a browser is told to come back later."""

from __future__ import annotations

import asyncio
import threading
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory
from django.urls import include, path

from django_sse import allowance, asend_event, census, send_events
from django_sse.address import client_address
from django_sse.allowance import QUESTION, Allowance
from django_sse.hub import Hub
from django_sse.testing import Parser, listen
from django_sse.views import EventStreamView
from tests.security.people import logged_in
from tests.security.streams import body
from tests.security.waiting import counting, until

pytestmark = pytest.mark.usefixtures("committed")

urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("fixed/", EventStreamView.as_view(channels=["anything"])),
]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> Any:
    settings.ROOT_URLCONF = __name__
    allowance.replay.clear()
    yield
    allowance.replay.clear()


def told_to_wait(text: bytes) -> bool:
    parser = Parser()
    return parser.feed(text) == [] and 30_000 <= (parser.retry or 0) <= 90_000 and not parser.last_event_id


class TestStreams:
    async def test_of_one_user(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_STREAMS_PER_USER": 3}
        (_, ann), (_, bob) = await logged_in(), await logged_in("bob")
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(listen(ann, "/fixed/"))
            response: Any = await ann.get("/fixed/")
            assert response.status_code == 200
            assert response["Content-Type"] == "text/event-stream; charset=utf-8"
            assert told_to_wait(await body(response))
            async with listen(bob, "/fixed/"), listen(AsyncClient(), "/fixed/"), listen(AsyncClient(), "/fixed/"):
                pass
        async with listen(ann, "/fixed/") as events:
            await asend_event("anything", None, 1)
            assert (await events.next()).json() == 1

    async def test_all_at_once(self, settings: Any) -> None:
        """Whoever opens them faster than they are counted has no more of them."""
        settings.DJANGO_SSE = {"MAX_STREAMS_PER_USER": 3}
        _, ann = await logged_in()
        responses: list[Any] = [await ann.get("/fixed/") for _ in range(10)]
        pieces = [aiter(response.streaming_content) for response in responses if response.streaming]
        first = [await anext(one) for one in pieces]
        assert sum(b"id:" in piece for piece in first) == 3
        assert sum(told_to_wait(piece) for piece in first) == len(first) - 3
        for one in pieces:
            await one.aclose()

    async def test_of_one_user_over_the_event_loops_of_a_process(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(census, "LEASE", 1000)
        settings.DJANGO_SSE = {"MAX_STREAMS_PER_USER": 3}
        _, ann = await logged_in()
        pk = str((await User.objects.aget()).pk)
        enough = threading.Event()

        async def elsewhere() -> None:
            for _ in range(2):
                Hub.current().census.add(pk, "")
            await asyncio.to_thread(enough.wait, 30)

        other = threading.Thread(target=asyncio.run, args=[elsewhere()])
        async with listen(ann, "/fixed/"):
            assert not Hub.current().census.is_full(pk, "")
            other.start()
            await until(lambda: Hub.current().census.is_full(pk, ""))
            assert told_to_wait(await body(await ann.get("/fixed/")))
            enough.set()
            await until(lambda: not other.is_alive())
            await until(lambda: not Hub.current().census.is_full(pk, ""))

    async def test_a_hub_that_is_made_anew_counts_anew(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_STREAMS_PER_USER": 1}
        _, ann = await logged_in()
        for _ in range(3):
            async with listen(ann, "/fixed/") as events:
                hub = Hub.current()
                hub._task.cancel()
                with pytest.raises(EOFError):
                    await events.next()
            assert Hub.current() is not hub

    async def test_of_one_address(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_STREAMS_PER_ADDRESS": 2}
        async with listen(AsyncClient(), "/fixed/"), listen(AsyncClient(), "/fixed/"):
            assert told_to_wait(await body(await AsyncClient().get("/fixed/")))
            spoofed = await AsyncClient().get("/fixed/", headers={"X-Forwarded-For": "203.0.113.9"})
            assert told_to_wait(await body(spoofed))

    async def test_a_full_address_costs_no_query(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_STREAMS_PER_ADDRESS": 1}
        _, ann = await logged_in()
        async with listen(AsyncClient(), "/fixed/"):
            async with counting() as queries:
                assert told_to_wait(await body(await ann.get("/fixed/")))
            assert queries == []

    async def test_during_a_flood_others_connect(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_STREAMS_PER_USER": 5}
        (_, ann), (_, bob) = await logged_in(), await logged_in("bob")
        stop = asyncio.Event()

        async def flood() -> int:
            opened: list[Any] = []
            while not stop.is_set():
                response: Any = await ann.get("/fixed/")
                if response.streaming:
                    opened.append(aiter(response.streaming_content))
                    await anext(opened[-1])
            for one in opened:
                await one.aclose()
            return len(opened)

        flooding = asyncio.create_task(flood())
        for _ in range(5):
            async with listen(bob, "/fixed/") as events:
                await asend_event("anything", None, "through")
                assert (await events.next()).json() == "through"
        stop.set()
        assert await flooding == 5


class TestAddress:
    @pytest.mark.parametrize(
        ("proxies", "remote", "forwarded", "expected"),
        [
            (0, "192.0.2.1", "", "192.0.2.1"),
            (0, "192.0.2.1", "203.0.113.9", "192.0.2.1"),
            (1, "192.0.2.1", "203.0.113.9", "203.0.113.9"),
            (1, "192.0.2.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
            (2, "192.0.2.1", "6.6.6.6, 203.0.113.9, 192.0.2.2", "203.0.113.9"),
            (2, "192.0.2.1", "203.0.113.9", "192.0.2.1"),
            (1, "192.0.2.1", "", "192.0.2.1"),
            (0, "2001:db8:1:2:3:4:5:6", "", "2001:db8:1:2::"),
            (0, "2001:db8:1:2::1", "", "2001:db8:1:2::"),
            (0, "::ffff:192.0.2.1", "", "192.0.2.1"),
            (0, "", "", ""),
            (1, "192.0.2.1", "x" * 300, "x" * 100),
            (1, "192.0.2.1", "203.0.113.9:1234", "203.0.113.9"),
            (1, "192.0.2.1", "[2001:db8:1:2::9]:99", "2001:db8:1:2::"),
            (1, "192.0.2.1", "[2001:db8:1:2::9]", "2001:db8:1:2::"),
            (1, "192.0.2.1", "2001:db8:1:2::99", "2001:db8:1:2::"),
            (1, "192.0.2.1", "2001::1", "2001::"),
            (1, "192.0.2.1", "unknown:99", "unknown:99"),
        ],
    )
    def test_as_far_as_it_can_be_believed(
        self, settings: Any, proxies: int, remote: str, forwarded: str, expected: str
    ) -> None:
        settings.DJANGO_SSE = {"TRUSTED_PROXIES": proxies}
        request = RequestFactory().get("/", headers={"X-Forwarded-For": forwarded} if forwarded else {})
        request.META["REMOTE_ADDR"] = remote
        assert client_address(request) == expected


class TestChannels:
    async def test_too_many_are_refused_before_anybody_is_asked(self, settings: Any) -> None:
        asked: list[str] = []
        settings.DJANGO_SSE = {"AUTHORIZE": lambda request, channel: asked.append(channel) or True}
        _, ann = await logged_in()
        async with counting() as queries:
            response = await ann.get("/events/?" + "&".join(f"channel=a{n}" for n in range(21)))
        assert (response.status_code, asked, queries) == (400, [], [])

    async def test_ten_thousand(self) -> None:
        response = await AsyncClient().get("/events/?" + "&".join(["channel=public.a"] * 10_000))
        assert response.status_code == 400

    async def test_one_bad_name_is_refused_before_anybody_is_asked(self, settings: Any) -> None:
        asked: list[str] = []
        settings.DJANGO_SSE = {"AUTHORIZE": lambda request, channel: asked.append(channel) or True}
        assert (await AsyncClient().get("/events/?channel=a&channel=b%20")).status_code == 400
        assert asked == []


class TestReplay:
    @pytest.fixture(autouse=True)
    def _no_time_passes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Else what is given depends on how long the test takes."""
        monkeypatch.setattr(allowance.replay, "_clock", lambda: 0.0)

    async def test_a_client_that_asks_for_the_same_again_and_again_must_wait(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"RING_SIZE": 10, "MAX_REPLAY": 1000, "MAX_STREAMS_PER_USER": None}
        await sync_to_async(send_events)([("anything", None, number) for number in range(400)])
        (_, ann), (_, bob) = await logged_in(), await logged_in("bob")
        given = 0
        for _ in range(20):
            async with listen(ann, "/fixed/", last_event_id="1") as events:
                try:
                    while True:
                        event = await events.next()
                        given += 1
                        if event.json() == 399:
                            break
                except EOFError:
                    assert 30_000 <= (events.parser.retry or 0) <= 90_000
        assert 1000 <= given <= 1400, "a minute's allowance, and what was under way"
        async with listen(bob, "/fixed/", last_event_id="1") as events:
            assert [(await events.next()).json() for _ in range(399)] == list(range(1, 400))

    async def test_nothing_is_lost_by_it(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.DJANGO_SSE = {"RING_SIZE": 10, "MAX_REPLAY": 300}
        await sync_to_async(send_events)([("anything", None, number) for number in range(1000)])
        _, ann = await logged_in()
        seen, cursor = [], "1"
        while len(seen) < 999:
            async with listen(ann, "/fixed/", last_event_id=cursor) as events:
                try:
                    while len(seen) < 999:
                        seen.append((await events.next()).json())
                except EOFError:
                    allowance.replay.clear()  # a minute passes
                cursor = events.parser.last_event_id
        assert seen == list(range(1, 1000))

    async def test_what_the_process_has_in_memory_is_not_counted(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_REPLAY": 1, "MAX_STREAMS_PER_ADDRESS": 100}
        async with listen(AsyncClient(), "/fixed/"):
            await sync_to_async(send_events)([("anything", None, number) for number in range(5)])
            for _ in range(5):
                async with listen(AsyncClient(), "/fixed/", last_event_id="0") as events:
                    assert [(await events.next()).json() for _ in range(5)] == list(range(5))

    @pytest.mark.parametrize(("by_address", "given"), [(None, 400), (100, 100)])
    async def test_an_address_counts_where_it_is_known_to_be_the_clients(
        self, settings: Any, by_address: int | None, given: int
    ) -> None:
        """Behind a proxy that no setting names, all who are not logged in have one address."""
        settings.DJANGO_SSE = {"RING_SIZE": 10, "MAX_REPLAY": 1, "MAX_STREAMS_PER_ADDRESS": by_address}
        await sync_to_async(send_events)([("anything", None, number) for number in range(401)])
        seen = []
        async with listen(AsyncClient(), "/fixed/", last_event_id="1") as events:
            with suppress(EOFError):
                while len(seen) < 400:
                    seen.append((await events.next()).json())
        assert seen == list(range(1, given + 1))

    async def test_polls_for_json_are_counted(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_REPLAY": 1000}
        await sync_to_async(send_events)([("anything", None, number) for number in range(400)])
        (_, ann), (_, bob) = await logged_in(), await logged_in("bob")
        given, refused = 0, None
        for _ in range(50):
            response = await ann.get("/fixed/?since=1", headers={"Accept": "application/json"})
            if response.status_code != 200:
                refused = response
                break
            given += len(response.json()["events"])
        assert refused is not None
        assert (refused.status_code, refused["Retry-After"], refused.content) == (429, "60", b"")
        assert 1000 <= given <= 1200, "a minute's allowance, and what was under way"
        assert len((await bob.get("/fixed/?since=1", headers={"Accept": "application/json"})).json()["events"]) == 200

    @pytest.mark.parametrize("by_address", [None, 100])
    def test_polls_under_wsgi_are_counted(self, settings: Any, by_address: int | None) -> None:
        """And an address only where it is known to be the client's."""
        settings.DJANGO_SSE = {"MAX_REPLAY": 1000, "MAX_STREAMS_PER_ADDRESS": by_address}
        send_events([("anything", None, number) for number in range(400)])
        texts = [Client().get("/fixed/?since=1").content for _ in range(10)]
        given = sum(len(Parser().feed(text)) for text in texts)
        if by_address is None:
            assert given == 10 * 200
        else:
            assert 1000 <= given <= 1200, "a minute's allowance, and what was under way"
            assert told_to_wait(texts[-1])

    async def test_polls_that_find_nothing_are_free(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_REPLAY": 1}
        await asend_event("anything", None, 1)
        _, ann = await logged_in()
        for _ in range(10):
            assert (await ann.get("/fixed/?since=1", headers={"Accept": "application/json"})).status_code == 200

    def test_the_bucket_fills_as_time_passes(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_REPLAY": 600}
        now = 0.0
        bucket = Allowance(lambda: now)
        bucket.spend("ann", 599)
        assert not bucket.is_spent("ann")
        bucket.spend("ann", 0)
        assert bucket.is_spent("ann")
        assert not bucket.is_spent("bob")
        now = (QUESTION - 1) / 10
        assert bucket.is_spent("ann")
        now += 0.2
        assert not bucket.is_spent("ann")
        assert not bucket.is_spent("")

    def test_who_has_waited_long_enough_is_forgotten(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.DJANGO_SSE = {"MAX_REPLAY": 100}
        monkeypatch.setattr(allowance, "CLIENTS", 3)
        now = 0.0
        bucket = Allowance(lambda: now)
        for name in "abc":
            bucket.spend(name, 100)
        now = 100.0
        bucket.spend("d", 100)
        assert set(bucket._spent) == {"d"}

    def test_looking_for_those_costs_little_for_each_page(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nobody can be forgotten yet, all are looked at when there are twice as many."""
        settings.DJANGO_SSE = {"MAX_REPLAY": 100}
        monkeypatch.setattr(allowance, "CLIENTS", 10)
        looked = 0

        class Counting(Allowance):
            def _now(self, client: str) -> float:
                nonlocal looked
                looked += 1
                return super()._now(client)

        bucket = Counting(lambda: 0.0)
        for number in range(1000):
            bucket.spend(str(number), 100)
        assert len(bucket._spent) == 1000
        assert looked < 4 * 1000


async def test_an_address_that_nobody_knows_is_not_counted(settings: Any) -> None:
    """A server on a socket of the file system has none: everybody would be one client."""
    settings.DJANGO_SSE = {"MAX_STREAMS_PER_ADDRESS": 1}
    request: Any = AsyncRequestFactory().get("/")
    request.META["REMOTE_ADDR"] = ""
    async with listen(AsyncClient(), "/fixed/"):
        assert not Hub.current().census.is_full(None, client_address(request))
