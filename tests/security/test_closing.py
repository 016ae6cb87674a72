"""Closing streams within one process: what is late, lost, doubled or rolled back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import OperationalError, transaction
from django.test import AsyncClient, Client
from django.urls import include, path

from django_sse import aclose_streams, asend_event, close_streams, log, retention
from django_sse.control import CONTROL, Notice, fingerprint
from django_sse.models import Event, Head
from django_sse.publish import send_notice
from django_sse.testing import Parser, capture_events, listen
from django_sse.views import EventStreamView
from tests.security.asked import function_view
from tests.security.people import logged_in
from tests.security.streams import body, farewell, is_open
from tests.security.user_models import user_model
from tests.security.waiting import until, watching

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.usefixtures("committed")

urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("fixed/", EventStreamView.as_view(channels=["anything"])),
    path("function/", function_view),
]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": None}


class TestCloseStreams:
    @pytest.mark.parametrize("path", ["/events/?channel=user.{}", "/fixed/", "/function/"])
    async def test_of_a_user(self, path: str) -> None:
        user, client = await logged_in()
        _, other = await logged_in("bob")
        async with listen(client, path.format(user.pk)) as events, listen(other, "/fixed/") as others:
            await aclose_streams(user=user, reason="because")
            assert await farewell(events) == "because"
            await is_open(others, "anything")

    async def test_of_a_channel(self) -> None:
        async with (
            listen(AsyncClient(), "/events/?channel=public.a&channel=public.b") as both,
            listen(AsyncClient(), "/events/?channel=public.a") as one,
        ):
            await aclose_streams(channel="public.b")
            assert await farewell(both) == "closed"
            await is_open(one, "public.a")

    async def test_of_a_user_with_a_channel(self) -> None:
        user, client = await logged_in()
        async with (
            listen(client, "/events/?channel=public.a") as mine,
            listen(client, "/events/?channel=public.b") as elsewhere,
            listen(AsyncClient(), "/events/?channel=public.a") as others,
        ):
            await aclose_streams(user=user.pk, channel="public.a", reason="left")
            assert await farewell(mine) == "left"
            await is_open(elsewhere, "public.b")
            await is_open(others, "public.a")

    async def test_the_packages_client_is_told_whether_to_come_back(self) -> None:
        user, client = await logged_in()
        for final, data in ((True, '{"reason": "closed"}'), (False, '{"reason": "closed", "final": false}')):
            async with listen(client, "/fixed/") as events:
                await aclose_streams(user=user, final=final)
                assert (await events.next()).data == data
        async with listen(client, "/fixed/") as events:
            user.set_password("after")
            await user.asave()
            assert json.loads((await events.next()).data) == {"reason": "password", "final": False}

    async def test_rolled_back_nothing_is_closed(self) -> None:
        user, client = await logged_in()

        def roll_back() -> None:
            with transaction.atomic():
                close_streams(user=user)
                transaction.set_rollback(True)

        async with listen(client, "/fixed/") as events:
            await sync_to_async(roll_back)()
            await is_open(events, "anything")

    def test_what_makes_no_sense_is_refused(self) -> None:
        with pytest.raises(ValueError, match="needs user= or channel="):
            close_streams()
        with pytest.raises(ValueError, match="not a channel name"):
            close_streams(channel=CONTROL)
        with pytest.raises(ValueError, match="no primary key"):
            close_streams(user=User())
        with pytest.raises(ValueError, match="not a text of 1 to 100"):
            close_streams(user=1, reason="")
        assert not Event.objects.exists()

    async def test_nothing_that_was_published_before_is_sent_after(self) -> None:
        """What a slow client has not been sent yet, it is not sent any more."""
        user, client = await logged_in()
        async with listen(client, "/fixed/") as events:
            for number in range(3):
                await asend_event("anything", None, number)
            await aclose_streams(user=user)
            await until(lambda: watching()._notices)
            assert await farewell(events) == "closed"


@pytest.fixture
def member() -> Iterator[Any]:
    """A proxy of the users that was there when the project started."""
    with user_model("Member") as made:
        yield made


class TestNotices:
    async def test_no_client_gets_one(self) -> None:
        user, _ = await logged_in()
        await aclose_streams(user=user)
        await asend_event("public.a", None, 1)
        assert (await log.aget_head()) == 2
        for address in (f"/events/?channel={CONTROL}", "/events/?channel=%21control", "/events/?channel=!control"):
            assert (await AsyncClient().get(address)).status_code == 400
        async with listen(AsyncClient(), "/events/?channel=public.a&since=0") as events:
            event = await events.next()
            assert (event.json(), event.last_event_id) == (1, "2")
        polled = await sync_to_async(Client().get)("/events/?channel=public.a&since=0")
        assert [event.data for event in Parser().feed(polled.content)] == ["1"]

    def test_nobody_can_send_one(self) -> None:
        from django_sse import send_event

        with pytest.raises(ValueError, match="not a channel name"):
            send_event(CONTROL, None, 1)
        with pytest.raises(ValueError, match="reserved"):
            send_event("public.a", "sse.close", 1)

    def test_captured_events_are_the_projects_own(self) -> None:
        with capture_events() as events:
            close_streams(user=1)
        assert events == []

    async def test_a_purge_at_the_same_time_loses_none(self) -> None:
        """The ring is emptied, so the notice must come from the log."""
        user, client = await logged_in()

        def both() -> None:
            with transaction.atomic():
                close_streams(user=user)
                retention.purge("anything")

        async with listen(client, "/fixed/") as events:
            await sync_to_async(both)()
            assert await farewell(events) == "closed"

    async def test_one_that_fell_out_of_the_ring_comes_from_the_log(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"RING_SIZE": 2, "POLL_INTERVAL": 0.1, "RECHECK": None}
        user, client = await logged_in()

        def many() -> None:
            with transaction.atomic():
                close_streams(user=user)
                for number in range(10):
                    Event.objects.create(channel="elsewhere", data=str(number))

        async with listen(client, "/fixed/") as events:
            await sync_to_async(many)()
            assert await farewell(events) == "closed"

    @pytest.mark.parametrize("behind", [True, False])
    async def test_where_one_may_be_lost_everybody_is_asked(self, behind: bool) -> None:
        """The log was replaced by an older backup: what it had said is gone, also if nobody had looked so far."""
        _, client = await logged_in()
        async with listen(client, "/fixed/") as events, listen(AsyncClient(), "/fixed/") as others:
            await asend_event("anything", None, 1)
            await events.next()
            await others.next()
            watching()._cursor = 0 if behind else 1
            await Session.objects.all().adelete()
            await Event.objects.all().adelete()
            await Head.objects.all().aupdate(position=0)
            types = [(await events.next()).type]
            while types[-1] != "sse.close":
                types.append((await events.next()).type)
            assert (await others.next()).type == "sse.reset"

    async def test_where_one_may_have_been_trimmed_everybody_is_asked(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"RING_SIZE": 2, "POLL_INTERVAL": 0.1, "RECHECK": None}
        user, client = await logged_in()
        async with listen(client, "/fixed/") as events:
            for number in range(5):
                await asend_event("elsewhere", None, number)
            await sync_to_async(retention.trim)(keep=1)
            await Session.objects.all().adelete()
            watching()._cursor = 0  # as after a long sleep of the whole process
            await aclose_streams(user=user.pk + 1)
            types = [(await events.next()).type]
            while types[-1] != "sse.close":  # the stream itself may have to say that its place is gone
                types.append((await events.next()).type)

    async def test_one_that_cannot_be_read_asks_everybody(self, caplog: pytest.LogCaptureFixture) -> None:
        _, client = await logged_in()
        async with listen(client, "/fixed/") as events:
            await Session.objects.all().adelete()
            await Event.objects.acreate(channel=CONTROL, data="nonsense\nof two lines")
            assert await farewell(events) == "expired"
        assert "is no notice" in caplog.text

    async def test_one_that_cannot_be_read_hides_none(self) -> None:
        user, client = await logged_in()

        def both() -> None:
            with transaction.atomic():
                Event.objects.create(channel=CONTROL, data="nonsense\nof two lines\r7 {}")
                close_streams(user=user, reason="after")

        async with listen(client, "/fixed/") as events:
            await sync_to_async(both)()
            assert await farewell(events) == "after"

    async def test_one_that_comes_while_the_stream_is_being_opened_closes_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        user, client = await logged_in()
        decide = EventStreamView._decide

        async def and_then_it_ends(self: Any, request: Any) -> Any:
            decided = await decide(self, request)
            await aclose_streams(user=user, reason="meanwhile")
            return decided

        async with listen(AsyncClient(), "/fixed/"):  # so that the notice is there before the stream is
            monkeypatch.setattr(EventStreamView, "_decide", and_then_it_ends)
            response: Any = await client.get("/fixed/")
            await until(lambda: watching()._notices)
            text = await body(response)
        assert text.endswith(b'event: sse.close\ndata: {"reason": "meanwhile"}\n\n')
        assert b"id:" not in text

    async def test_a_session_that_was_logged_out_of_stays_closed(self) -> None:
        """The signal is sent before the session is deleted: a stream may be opened in between."""
        _, client = await logged_in()
        key = client.cookies["sessionid"].value
        async with listen(AsyncClient(), "/fixed/"), listen(client, "/fixed/") as events:
            await sync_to_async(send_notice)(Notice("logout", session=fingerprint(key)).encode())
            assert await farewell(events) == "logout"
            response: Any = await client.get("/fixed/")  # the session is still there
            text = await body(response)
            assert b'{"reason": "logout"}' in text

    async def test_logging_out_does_not_fail_with_the_log(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(*args: Any) -> None:
            raise OperationalError("no such table")

        _, client = await logged_in()
        monkeypatch.setattr("django_sse.revocation.send_notice", broken)
        await client.alogout()
        assert "could not be told" in caplog.text

    async def test_a_proxy_of_the_user_model_tells_too(self, member: Any) -> None:
        """As projects have for their admins; Django sends the signal for the proxy alone."""
        user, client = await logged_in()
        async with listen(client, "/fixed/") as events:
            await member(pk=user.pk, username="ann", is_active=False).asave(update_fields=["is_active"])
            assert await farewell(events) == "deactivated"
        user, client = await logged_in("bob")
        async with listen(client, "/fixed/") as events:
            await member.objects.filter(pk=user.pk).adelete()
            assert await farewell(events) == "deactivated"

    async def test_saving_a_user_costs_nothing_where_no_right_ends(self) -> None:
        user, _ = await logged_in()
        user.first_name = "Ann"
        await user.asave()
        await User.objects.acreate_user("not yet", is_active=False)
        assert await Event.objects.acount() == 0
