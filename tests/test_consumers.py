"""A Channels consumer over the log."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from channels.auth import AuthMiddlewareStack
from channels.testing import WebsocketCommunicator
from django.contrib.auth import get_user_model
from django.contrib.sessions.models import Session
from django.db import OperationalError
from django.test import AsyncClient

from django_sse import aclose_streams, allowance, asend_event, asend_events, send_events
from django_sse.consumers import AWAY, ENDED, EventConsumer
from django_sse.hub import Hub
from django_sse.stream import Stream
from tests.security.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

pytestmark = pytest.mark.usefixtures("committed")


class Room(EventConsumer):
    channels = ["room"]

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await asend_event("room", "said", content)


def socket(query: str = "", consumer: Any = EventConsumer, **scope: Any) -> AbstractAsyncContextManager[Any]:
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def connected() -> AsyncIterator[WebsocketCommunicator]:
        communicator = WebsocketCommunicator(consumer.as_asgi(), f"/live/?{query}")
        communicator.scope.update(scope)
        communicator.accepted, _ = await communicator.connect(timeout=10)
        try:
            yield communicator
        finally:
            await communicator.disconnect()

    return connected()


async def receive(communicator: WebsocketCommunicator) -> Any:
    """The next event, past the ids alone."""
    while "type" not in (message := await communicator.receive_json_from(timeout=10)):
        assert set(message) == {"id"}
    return message


async def test_what_follows_the_cursor_and_then_what_is_new() -> None:
    await asend_events([("public.a", None, 1), ("public.b", None, 2), ("public.a", "status", {"n": 3})])
    async with socket("channel=public.a&since=1") as client:
        assert await receive(client) == {"id": 3, "type": "status", "data": '{"n":3}'}
        await asend_event("public.a", text="new")
        assert await receive(client) == {"id": 4, "type": "message", "data": "new"}


async def test_without_a_cursor_it_is_told_where_it_is() -> None:
    await asend_event("public.a", None, 1)
    async with socket("channel=public.a") as client:
        assert await client.receive_json_from(timeout=10) == {"id": 1}


async def test_a_cursor_that_cannot_be_served_is_reset() -> None:
    async with socket("channel=public.a&since=99") as client:
        event = await receive(client)
        assert (event["type"], json.loads(event["data"])) == ("sse.reset", {"reason": "ahead", "id": 0})


@pytest.mark.parametrize(
    "query",
    ["", "channel=secret", "channel=public.a&channel=secret", "channel=not%20one", "&".join(["channel=public.a"] * 21)],
)
async def test_who_may_not_is_refused_before_the_handshake(query: str) -> None:
    async with socket(query) as client:
        assert not client.accepted


async def test_the_authoriser_sees_who_it_is() -> None:
    users = [await get_user_model().objects.acreate(username=name) for name in ("ann", "bob")]
    channel = f"channel=user.{users[0].pk}"
    async with socket(channel, user=users[0]) as ann, socket(channel, user=users[1]) as bob, socket(channel) as nobody:
        assert (ann.accepted, bob.accepted, nobody.accepted) == (True, False, False)


async def test_a_subclass_talks_back_and_both_see_it() -> None:
    async with socket(consumer=Room) as one, socket(consumer=Room) as other:
        await one.send_json_to({"text": "hello"})
        for client in (one, other):
            event = await receive(client)
            assert (event["type"], json.loads(event["data"])) == ("said", {"text": "hello"})
    async with socket(f"since={event['id'] - 1}", consumer=Room) as late:
        assert (await receive(late))["id"] == event["id"]


async def test_a_stream_that_ends_asks_its_client_to_come_back(settings: Any) -> None:
    settings.DJANGO_SSE = {"MAX_AGE": 0.1}
    async with socket("channel=public.a&since=0") as client:
        while (message := await client.receive_output(timeout=10))["type"] != "websocket.close":
            pass
        assert message["code"] == AWAY


async def test_without_a_database_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*args: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(Stream, "open", broken)
    async with socket("channel=public.a&since=0") as client:
        assert (await client.receive_output(timeout=10)) == {"type": "websocket.close", "code": AWAY}


@pytest.mark.parametrize("frame", [{"text_data": "no JSON"}, {"bytes_data": b"{}"}, {"text_data": "{}"}])
async def test_a_frame_that_makes_it_fail_ends_its_stream_too(frame: Any) -> None:
    """Channels calls no ``disconnect`` then."""

    class Chat(Room):
        async def receive_json(self, content: Any, **kwargs: Any) -> None:
            content["text"]

    communicator = WebsocketCommunicator(Chat.as_asgi(), "/live/")
    communicator.scope["user"] = await get_user_model().objects.acreate(username="ann")
    assert await communicator.connect(timeout=10) == (True, None)
    await communicator.receive_json_from(timeout=10)
    hub = Hub.current()
    count = hub._count
    assert hub.census._own
    await communicator.send_to(**frame)
    with suppress(Exception):  # that of the frame, mostly: cancelled, a layer may raise one of its own
        await communicator.wait(timeout=10)
    await until(lambda: hub._count < count and not hub.census._own)


async def test_a_right_that_ends_while_it_is_opened_is_said() -> None:
    """Before any id, so the event has none."""
    user = await get_user_model().objects.acreate(username="ann")
    decide = EventConsumer._decide

    class Late(Room):
        async def _decide(self, request: Any) -> frozenset[str]:
            decided = await decide(self, request)
            await aclose_streams(user=user, reason="meanwhile")
            warden: Any = Hub.current().warden
            await until(lambda: warden._notices)
            return decided

    async with socket(consumer=Room), socket(consumer=Late, user=user) as client:
        event = await receive(client)
        assert (event["id"], event["type"], json.loads(event["data"])) == (None, "sse.close", {"reason": "meanwhile"})
        assert await closed(client) == ENDED


async def closed(communicator: WebsocketCommunicator) -> int:
    """Return the code with which the socket is closed, past whatever is sent before."""
    while (message := await communicator.receive_output(timeout=10))["type"] != "websocket.close":
        pass
    return message["code"]  # type: ignore[no-any-return]


async def test_without_a_database_to_ask_its_client_comes_back(settings: Any) -> None:
    def away(request: Any, channel: str) -> bool:
        raise OperationalError("the database is away")

    settings.DJANGO_SSE = {"AUTHORIZE": away}
    async with socket("channel=a") as client:
        assert client.accepted, "a refusal would tell it nothing"
        assert await closed(client) == AWAY


async def test_more_parameters_than_django_takes_are_a_refusal() -> None:
    async with socket("&".join(["channel=public.a"] * 1001)) as client:
        assert not client.accepted


class TestRightsThatEnd:
    @pytest.fixture(autouse=True)
    def _settings(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.2}

    async def farewell(self, client: WebsocketCommunicator) -> str:
        event = await receive(client)
        assert event["type"] == "sse.close", event
        assert await closed(client) == ENDED
        return json.loads(event["data"])["reason"]  # type: ignore[no-any-return]

    async def test_streams_that_are_closed(self) -> None:
        user = await get_user_model().objects.acreate(username="ann")
        async with socket(f"channel=user.{user.pk}", user=user) as client, socket("channel=public.a") as other:
            await aclose_streams(user=user, reason="because")
            assert await self.farewell(client) == "because"
            await asend_event("public.a", None, 1)
            assert (await receive(other))["data"] == "1"

    async def test_a_user_of_whom_no_signal_tells(self) -> None:
        user = await get_user_model().objects.acreate(username="ann")
        async with socket(f"channel=user.{user.pk}", user=user) as client:
            await get_user_model().objects.aupdate(is_active=False)
            assert await self.farewell(client) == "deactivated"

    @pytest.mark.parametrize("told", [True, False], ids=["logged out", "session deleted"])
    async def test_with_the_session(self, told: bool) -> None:
        """As ``AuthMiddlewareStack`` finds it."""
        user = await get_user_model().objects.acreate(username="ann")
        browser = AsyncClient()
        await browser.aforce_login(user)
        cookie = f"sessionid={browser.cookies['sessionid'].value}"
        path = f"/live/?channel=user.{user.pk}"
        client = WebsocketCommunicator(
            AuthMiddlewareStack(EventConsumer.as_asgi()), path, headers=[(b"cookie", cookie.encode())]
        )
        assert (await client.connect(timeout=10))[0]
        await asend_event(f"user.{user.pk}", None, 1)
        assert (await receive(client))["data"] == "1"
        if told:
            await browser.alogout()
        else:
            await Session.objects.all().adelete()
        assert await self.farewell(client) == ("logout" if told else "expired")
        await client.disconnect()

    @pytest.mark.parametrize("lost", [["a", "b"], ["a"]])
    async def test_channels_that_it_would_not_get_any_more(self, lost: list[str]) -> None:
        """``get_channels`` is asked again, with the user as they are then; the authoriser as well."""
        names = {"a", "b"}
        seen: list[Any] = []

        class Own(EventConsumer):
            async def get_channels(self) -> list[str]:
                seen.append((self.scope["user"].first_name, self.scope["url_route"]["kwargs"]["pk"]))
                return sorted(names)

        user = await get_user_model().objects.acreate(username="ann")
        async with socket(consumer=Own, user=user, url_route={"kwargs": {"pk": 7}}) as client:
            await get_user_model().objects.aupdate(first_name="Ann")
            await until(lambda: ("Ann", 7) in seen)
            names.difference_update(lost)
            assert await self.farewell(client) == "denied"

    async def test_an_authoriser_that_says_no(self, settings: Any) -> None:
        allowed = {"a", "b"}
        settings.DJANGO_SSE = {**settings.DJANGO_SSE, "AUTHORIZE": lambda request, channel: channel in allowed}
        async with socket("channel=a&channel=b") as client:
            allowed.remove("b")
            assert await self.farewell(client) == "denied"


class TestLimits:
    async def test_of_one_user(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_STREAMS_PER_USER": 2}
        user = await get_user_model().objects.acreate(username="ann")
        async with AsyncExitStack() as stack:
            for _ in range(2):
                client = await stack.enter_async_context(socket("channel=public.a&since=0", user=user))
                await client.receive_json_from(timeout=10)
            third = await stack.enter_async_context(socket("channel=public.a", user=user))
            assert await closed(third) == AWAY
            other = await stack.enter_async_context(socket("channel=public.a&since=0"))
            await other.receive_json_from(timeout=10)

    async def test_of_one_user_in_all_processes(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_STREAMS_PER_USER": 2}
        user = await get_user_model().objects.acreate(username="ann")
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(socket("channel=public.a&since=0", user=user))
            await client.receive_json_from(timeout=10)
            census = Hub.current().census
            census.hear({"hub": "f" * 32, "streams": {census._fingerprint(f"user {user.pk}"): 1}})
            second = await stack.enter_async_context(socket("channel=public.a", user=user))
            assert await closed(second) == AWAY

    async def test_of_what_is_read_again(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"RING_SIZE": 10, "MAX_REPLAY": 300}
        allowance.replay.clear()
        await sync_to_async(send_events)([("public.a", None, number) for number in range(1000)])
        user = await get_user_model().objects.acreate(username="ann")
        async with socket("channel=public.a&since=1", user=user) as client:
            events = []
            while (message := await client.receive_output(timeout=10))["type"] != "websocket.close":
                events.append(json.loads(message["text"]))
            assert message["code"] == AWAY
            assert 300 <= len([one for one in events if "type" in one]) < 999
        allowance.replay.clear()  # a minute passes
        async with socket(f"channel=public.a&since={events[-1]['id']}", user=user) as client:
            assert (await receive(client))["id"] == events[-1]["id"] + 1
        allowance.replay.clear()


async def test_who_leaves_leaves_nothing_behind() -> None:
    async with socket("channel=public.a&since=0") as client:
        await client.receive_json_from(timeout=10)
        assert Hub.current()._count == 2  # it, and its warden
    await sync_to_async(lambda: None)()
    assert Hub.current()._count == 0
