"""Closing streams within one process: what is late, lost, doubled or rolled back, and what it costs."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.handlers.asgi import ASGIRequest
from django.db import OperationalError, connection, transaction
from django.test import AsyncClient, AsyncRequestFactory, Client
from django.urls import include, path

from django_sse import aclose_streams, asend_event, close_streams, log, recheck, warden
from django_sse.control import CONTROL, Notice, fingerprint
from django_sse.grant import Grant
from django_sse.hub import Hub
from django_sse.models import Event, Head
from django_sse.publish import send_notice
from django_sse.testing import Parser, capture_events, listen
from django_sse.views import EventStreamView, event_stream
from tests.security.waiting import until

if TYPE_CHECKING:
    from django_sse.testing import EventReader

pytestmark = pytest.mark.usefixtures("committed")


async def function_view(request: Any) -> Any:
    return await event_stream(request, ["anything"])


urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("fixed/", EventStreamView.as_view(channels=["anything"])),
    path("function/", function_view),
]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": None}


async def logged_in(name: str = "ann") -> tuple[User, AsyncClient]:
    user = await User.objects.acreate_user(name, password="before")
    client = AsyncClient()
    await client.aforce_login(user)
    return user, client


def watching() -> Any:
    """Return the warden of the running loop."""
    return Hub.current().warden


async def farewell(events: EventReader) -> str:
    """Return the reason with which the stream ends."""
    event = await events.next()
    assert event.type == "sse.close", event
    with pytest.raises(EOFError):
        await events.next()
    return json.loads(event.data)["reason"]


async def is_open(events: EventReader, channel: str) -> None:
    await asend_event(channel, None, "still")
    assert (await events.next()).json() == "still"


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
                log.purge("anything")

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
            await sync_to_async(log.trim)(keep=1)
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
            text = b"".join([piece async for piece in response.streaming_content])
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
            text = b"".join([piece async for piece in response.streaming_content])
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

    async def test_saving_a_user_costs_nothing_where_no_right_ends(self) -> None:
        user, _ = await logged_in()
        user.first_name = "Ann"
        await user.asave()
        await User.objects.acreate_user("not yet", is_active=False)
        assert await Event.objects.acount() == 0


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``await rounds(3)``: wait until streams were asked again three times."""
    asked: list[Any] = []
    examine = recheck.examine

    async def noted(grants: Any) -> Any:
        findings = await examine(grants)
        asked.append(findings)
        return findings

    async def rounds(number: int) -> None:
        await until(lambda: len(asked) >= number)

    monkeypatch.setattr(warden, "examine", noted)
    return rounds


class TestAskingAgain:
    async def test_the_database_away_closes_nothing(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1}
        monkeypatch.setattr(warden, "AGAIN", 0.1)
        failed = asyncio.Event()

        def away(*args: Any) -> Any:
            failed.set()
            raise OperationalError("the database is away")

        _, client = await logged_in()
        async with listen(client, "/fixed/") as events:
            with monkeypatch.context() as patch:
                patch.setattr(recheck, "_identify", away)
                await asyncio.wait_for(failed.wait(), 10)
                await is_open(events, "anything")
            await Session.objects.all().adelete()
            assert await farewell(events) == "expired"

    async def test_an_authoriser_that_breaks_has_said_no(self, settings: Any) -> None:
        answers = iter([True])

        async def once(request: Any, channel: str) -> bool:
            return next(answers)

        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1, "AUTHORIZE": once}
        async with listen(AsyncClient(), "/events/?channel=a") as events:
            assert await farewell(events) == "denied"

    async def test_what_the_authoriser_is_given_again(self, settings: Any) -> None:
        seen: list[Any] = []
        had: list[bool] = []

        class Authoriser:
            keep = ["tenant"]

            async def __call__(self, request: Any, channel: str) -> bool:
                seen.append(request)
                had.append(hasattr(request, "tenant"))
                if not hasattr(request, "tenant"):
                    request.tenant = "acme"  # as a middleware would
                return True

        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1, "AUTHORIZE": Authoriser()}
        user, client = await logged_in()
        address = "/events/?channel=a&since=0&x=1"
        async with listen(client, address, last_event_id="0") as events:
            await until(lambda: len(seen) > 1)
            await is_open(events, "a")
        first, again = seen[0], seen[1]
        assert had[:2] == [False, True]
        assert isinstance(first, ASGIRequest)
        assert not isinstance(again, ASGIRequest)
        for name in ("method", "path", "path_info", "scheme"):
            assert getattr(again, name) == getattr(first, name), name
        assert again.GET == first.GET
        assert again.COOKIES == first.COOKIES
        assert again.get_host() == first.get_host()
        assert again.build_absolute_uri() == first.build_absolute_uri()
        assert again.session.session_key == client.cookies["sessionid"].value
        assert again.user == user == await again.auser()
        assert await again.session.aget("_auth_user_id") == str(user.pk)

    async def test_a_stream_keeps_no_request(self, monkeypatch: pytest.MonkeyPatch) -> None:
        kept: list[Any] = []
        of = Grant.of

        async def note(request: Any, *args: Any) -> Any:
            kept.append(weakref.ref(request))
            return await of(request, *args)

        monkeypatch.setattr(Grant, "of", note)
        response: Any = await AsyncClient().get("/events/?channel=public.a")
        pieces = aiter(response.streaming_content)
        await anext(pieces)
        stream = next(iter(watching()._streams))
        del response
        grant: Any = stream.grant
        seen: set[int] = set()
        pending: list[Any] = [grant]
        while pending:
            one = pending.pop()
            if id(one) in seen or isinstance(one, type | type(json)):
                continue
            seen.add(id(one))
            assert one is not kept[0](), "the request is kept"
            if not callable(one) or one is grant.ask:
                pending += [each for each in gc.get_referents(one) if not isinstance(each, dict) or len(each) < 60]
        await pieces.aclose()

    async def test_a_project_that_authenticates_by_middleware(self, settings: Any, rounds: Any) -> None:
        """There is no session that could say who it is: the user alone is looked at."""
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1}
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.by_proxy"]
        user = await User.objects.acreate_user("ann")
        async with listen(AsyncClient(), f"/events/?channel=user.{user.pk}&as={user.pk}") as events:
            await rounds(3)
            await is_open(events, f"user.{user.pk}")
            await User.objects.aupdate(is_active=False)
            assert await farewell(events) == "deactivated"

    @pytest.mark.parametrize("engine", ["cache", "cached_db", "db", "signed_cookies"])
    async def test_every_store_of_sessions(self, settings: Any, engine: str, rounds: Any) -> None:
        settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.2}
        user, client = await logged_in(f"ann-{engine}")
        async with listen(client, f"/events/?channel=user.{user.pk}") as events:
            await rounds(3)
            await is_open(events, f"user.{user.pk}")
            await client.alogout()
            if engine == "signed_cookies":  # the test client forgets its cookie and sends no request
                await aclose_streams(user=user, reason="logout")
            assert await farewell(events) in ("logout", "expired")

    async def test_what_a_thousand_streams_cost(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sessions and users in batches, one question each: below the budget, and no connection afterwards."""
        settings.DJANGO_SSE = {"RECHECK": 1, "MAX_STREAMS_PER_USER": None, "AUTHORIZE": asks_the_database}
        costs: list[tuple[int, int]] = []
        examine = recheck.examine

        async def counted(grants: Any) -> Any:
            findings = await examine(grants)
            costs.append((len(grants), findings.queries))
            return findings

        monkeypatch.setattr(warden, "examine", counted)
        monkeypatch.setattr(warden, "QUERIES", 20)
        _, client = await logged_in()
        begun = asyncio.get_running_loop().time()
        async with AsyncExitStack() as stack:
            for _ in range(60):
                await stack.enter_async_context(listen(client, "/events/?channel=a"))
            await until(lambda: sum(asked for asked, _ in costs) >= 120)
            took = asyncio.get_running_loop().time() - begun
        assert [one for one in costs if one[1] > one[0] + 2 + 3 * SET_UP] == []
        # 60 streams would like more than 60 queries a second; the last batch alone has not been paid for yet.
        assert sum(queries for _, queries in costs[:-1]) <= warden.QUERIES * took + 1


SET_UP = {"sqlite": 1, "postgresql": 1, "mysql": 2}[connection.vendor]
"""Statements with which Django sets up a connection: they are counted too, for each thread that opens one."""


def asks_the_database(request: Any, channel: str) -> bool:
    return User.objects.filter(username="ann").exists()


def by_proxy(get_response: Any) -> Any:
    async def middleware(request: Any) -> Any:
        if pk := request.GET.get("as"):
            request.user = await User.objects.aget(pk=pk)
        return await get_response(request)

    return middleware


by_proxy.async_capable = True  # type: ignore[attr-defined]
by_proxy.sync_capable = False  # type: ignore[attr-defined]


async def test_a_hundred_streams_of_one_user_are_one_question_for_each_table() -> None:
    request: Any = AsyncRequestFactory().get("/")
    request.user = await User.objects.acreate_user("ann")
    grant = await Grant.of(request, 0)
    findings = await recheck.examine([grant] * 100)
    assert findings.reasons == [None] * 100
    assert findings.queries <= 1 + SET_UP
    assert await sync_to_async(lambda: connection.connection is None)(), "the connection is kept"
