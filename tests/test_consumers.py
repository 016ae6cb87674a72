"""A Channels consumer over the log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from django.contrib.auth import get_user_model
from django.db import OperationalError

from django_sse import asend_event, asend_events
from django_sse.consumers import AWAY, EventConsumer
from django_sse.stream import Stream

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


async def test_who_leaves_leaves_nothing_behind() -> None:
    from django_sse.hub import Hub

    async with socket("channel=public.a&since=0") as client:
        await client.receive_json_from(timeout=10)
        assert Hub.current()._count == 1
    await sync_to_async(lambda: None)()
    assert Hub.current()._count == 0
