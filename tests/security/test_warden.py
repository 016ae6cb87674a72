"""Closing streams within one process: what is late, lost, doubled or rolled back, and what it costs."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.core.handlers.asgi import ASGIRequest
from django.db import OperationalError, connection, connections, transaction
from django.test import AsyncClient, AsyncRequestFactory, Client
from django.urls import include, path

from django_sse import aclose_streams, asend_event, close_streams, examiner, log, recheck, revocation, rounds
from django_sse.control import CONTROL, Notice, fingerprint
from django_sse.examiner import Examiner
from django_sse.grant import Grant
from django_sse.hub import Hub
from django_sse.models import Event, Head
from django_sse.publish import send_notice
from django_sse.testing import Parser, capture_events, listen
from django_sse.views import EventStreamView, event_stream
from tests.security.waiting import body, until
from tests.shop.models import Order

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django_sse.testing import EventReader

pytestmark = pytest.mark.usefixtures("committed")


async def function_view(request: Any) -> Any:
    return await event_stream(request, ["anything"])


class Mine(EventStreamView):
    async def get_channels(self, request: Any) -> list[str]:
        user = await request.auser()
        return [f"order.{(await Order.objects.aget(pk=self.kwargs['pk'], state=f'of {user.pk}')).pk}"]


async def asked_view(request: Any, pk: int) -> Any:
    async def allowed(request: Any) -> bool:
        user = await request.auser()
        return bool(await Order.objects.aget(pk=pk, state=f"of {user.pk}"))

    return await event_stream(request, [f"order.{pk}"], allowed=allowed)


urlpatterns = [
    path("mine/<int:pk>/", Mine.as_view()),
    path("asked/<int:pk>/", asked_view),
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


@pytest.fixture
def member() -> Iterator[Any]:
    """A proxy of the users that was there when the project started."""

    class Member(User):
        class Meta:
            proxy = True
            app_label = "shop"

    revocation.connect()
    yield Member
    del apps.all_models["shop"]["member"]
    apps.clear_cache()


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


@pytest.fixture
def asked_again(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``await asked_again(3)``: wait until streams were asked again three times."""
    asked: list[Any] = []
    examine = Examiner.examine

    async def noted(self: Examiner, *args: Any) -> Any:
        findings = await examine(self, *args)
        if self.deciding:
            asked.append(findings)
        return findings

    async def wait(number: int) -> None:
        await until(lambda: len(asked) >= number)

    monkeypatch.setattr(Examiner, "examine", noted)
    return wait


class TestAskingAgain:
    async def test_the_database_away_closes_nothing(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1}
        monkeypatch.setattr(rounds, "AGAIN", 0.1)
        failed = threading.Event()

        def away(*args: Any) -> Any:
            failed.set()
            raise OperationalError("the database is away")

        _, client = await logged_in()
        async with listen(client, "/fixed/") as events:
            with monkeypatch.context() as patch:
                patch.setattr(examiner, "identify", away)
                await until(failed.is_set)
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

    @pytest.mark.parametrize("lost", [["a"], ["a", "b"]])
    async def test_get_channels_that_returns_one_of_them_no_more(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, lost: list[str], asked_again: Any
    ) -> None:
        """One more changes nothing for a stream that is open."""
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1}
        names = {"a", "b"}
        monkeypatch.setattr(Mine, "get_channels", lambda self, request: sorted(names))
        async with listen(AsyncClient(), "/mine/1/") as events:
            names.add("c")
            await asked_again(3)
            await is_open(events, "a")
            names.difference_update(lost)
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

    async def test_a_project_that_authenticates_by_middleware(self, settings: Any, asked_again: Any) -> None:
        """There is no session that could say who it is: the user alone is looked at."""
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1}
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, f"{__name__}.by_proxy"]
        user = await User.objects.acreate_user("ann")
        async with listen(AsyncClient(), f"/events/?channel=user.{user.pk}&as={user.pk}") as events:
            await asked_again(3)
            await is_open(events, f"user.{user.pk}")
            await User.objects.aupdate(is_active=False)
            assert await farewell(events) == "deactivated"

    @pytest.mark.parametrize("engine", ["cache", "cached_db", "db", "signed_cookies"])
    async def test_every_store_of_sessions(self, settings: Any, engine: str, asked_again: Any) -> None:
        settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.2}
        user, client = await logged_in(f"ann-{engine}")
        async with listen(client, f"/events/?channel=user.{user.pk}") as events:
            await asked_again(3)
            await is_open(events, f"user.{user.pk}")
            await client.alogout()
            if engine == "signed_cookies":  # the test client forgets its cookie and sends no request
                await aclose_streams(user=user, reason="logout")
            assert await farewell(events) in ("logout", "expired")

    async def test_what_a_thousand_streams_cost(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sessions and users in batches, one question each: below the budget, and no connection afterwards."""
        settings.DJANGO_SSE = {"RECHECK": 1, "MAX_STREAMS_PER_USER": None, "AUTHORIZE": asks_the_database}
        costs: list[tuple[int, int]] = []
        examine = Examiner.examine

        async def counted(self: Examiner, grants: Any, *args: Any) -> Any:
            findings = await examine(self, grants, *args)
            if self.deciding:
                costs.append((len(grants), findings.queries))
            return findings

        monkeypatch.setattr(Examiner, "examine", counted)
        monkeypatch.setattr(rounds, "QUERIES", 20)
        _, client = await logged_in()
        begun = asyncio.get_running_loop().time()
        async with AsyncExitStack() as stack:
            for _ in range(60):
                await stack.enter_async_context(listen(client, "/events/?channel=a"))
            await until(lambda: sum(asked for asked, _ in costs) >= 120)
            took = asyncio.get_running_loop().time() - begun
        assert [one for one in costs if one[1] > one[0] + 2 + 3 * SET_UP] == []
        # 60 streams would like more than 60 queries a second; the last batch alone has not been paid for yet.
        assert sum(queries for _, queries in costs[:-1]) <= rounds.QUERIES * took + 1


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


async def test_a_hundred_streams_of_one_user_are_one_question_for_each_table(monkeypatch: pytest.MonkeyPatch) -> None:
    user = await User.objects.acreate_user("ann")
    grants = []
    for _ in range(100):
        request: Any = AsyncRequestFactory().get("/")
        request.user = user
        grants.append(await Grant.of(request, 0))
    used: list[Any] = []
    queries: list[str] = []

    def note(execute: Any, sql: str, *args: Any) -> Any:
        queries.append(sql)
        return execute(sql, *args)

    def identify(grants: Any) -> Any:
        used.append(connections["default"])
        with used[0].execute_wrapper(note):
            return recheck.identify(grants)

    monkeypatch.setattr(examiner, "identify", identify)
    findings = await Examiner(deciding=True).examine(grants)
    assert findings.reasons == [None] * 100
    assert findings.queries == 0, "nothing was asked that decides"
    assert 1 <= len(queries) <= 1 + SET_UP
    assert used[0].connection is None, "the connection is kept"


class Own(ModelBackend):
    """A backend of the project's own."""

    get: Any = staticmethod(ModelBackend().get_user)

    def get_user(self, user_id: Any) -> Any:
        return self.get(user_id)


class TestOneThatSpoilsTheOthers:
    """What raises or hangs when it is asked again spoils its own answer, and no other stream's."""

    @pytest.fixture(autouse=True)
    def _short(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.2}
        monkeypatch.setattr(rounds, "AGAIN", 0.2)
        monkeypatch.setattr(examiner, "PATIENCE", 0.3)

    @pytest.mark.parametrize("path", ["/mine/{}/", "/asked/{}/"])
    async def test_what_raises_denies_its_own(self, path: str, caplog: pytest.LogCaptureFixture) -> None:
        """The row by which it decided is gone: DoesNotExist."""
        user, client = await logged_in()
        _, other = await logged_in("bob")
        order = await Order.objects.acreate(state=f"of {user.pk}")
        async with (
            listen(AsyncClient(), "/fixed/") as open_one,
            listen(other, "/fixed/") as others,
            listen(client, path.format(order.pk)) as mine,
        ):
            await Order.objects.all().aupdate(state="nobody's")
            assert await farewell(mine) == "denied"
            await User.objects.filter(username="bob").aupdate(is_active=False)
            assert await farewell(others) == "deactivated"
            await is_open(open_one, "anything")
        ours = [record for record in caplog.records if record.name.startswith("django_sse")]
        assert [record.getMessage() for record in ours] == ["What decides about a stream raised, so it is closed"]
        assert "DoesNotExist" in caplog.text
        assert f"order.{order.pk}" not in caplog.text

    async def test_a_backend_that_raises_denies_its_own(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Own"]
        ann, anns = await logged_in()
        bob, bobs = await logged_in("bob")
        get = Own.get

        def raises(user_id: Any) -> Any:
            if user_id == ann.pk:
                raise KeyError(user_id)
            return get(user_id)

        async with listen(anns, "/function/") as mine, listen(bobs, "/function/") as others:
            await is_open(mine, "anything")
            monkeypatch.setattr(Own, "get", staticmethod(raises))
            assert await farewell(mine) == "denied"
            assert (await others.next()).json() == "still"
            await User.objects.filter(pk=bob.pk).aupdate(is_active=False)
            assert await farewell(others) == "deactivated"

    async def test_one_whose_database_is_away_is_asked_again(self, settings: Any) -> None:
        away = asyncio.Event()
        tries: list[int] = []

        async def rule(request: Any, channel: str) -> bool:
            if channel == "a" and away.is_set():
                tries.append(1)
                raise OperationalError("the other database is away")
            return channel != "b" or not away.is_set()

        settings.DJANGO_SSE = {**settings.DJANGO_SSE, "AUTHORIZE": rule}
        async with (
            listen(AsyncClient(), "/events/?channel=a") as events,
            listen(AsyncClient(), "/events/?channel=b") as denied,
        ):
            away.set()
            assert await farewell(denied) == "denied"
            await until(lambda: len(tries) >= 2)
            await is_open(events, "a")

    @pytest.mark.parametrize("is_async", [True, False])
    async def test_one_that_hangs_holds_up_no_other(self, settings: Any, is_async: bool) -> None:
        hangs, free = threading.Event(), threading.Event()
        begun: list[str] = []

        async def hanging(request: Any, channel: str) -> bool:
            if channel == "a" and hangs.is_set():
                begun.append(channel)
                await asyncio.Event().wait()
            return channel != "b" or not hangs.is_set()

        def hanging_thread(request: Any, channel: str) -> bool:
            if channel == "a" and hangs.is_set():
                begun.append(channel)
                free.wait(30)
            return channel != "b" or not hangs.is_set()

        settings.DJANGO_SSE = {**settings.DJANGO_SSE, "AUTHORIZE": hanging if is_async else hanging_thread}
        _, bobs = await logged_in("bob")
        async with (
            listen(AsyncClient(), "/events/?channel=a") as events,
            listen(AsyncClient(), "/events/?channel=b") as denied,
            listen(bobs, "/events/?channel=c") as others,
        ):
            hangs.set()
            try:
                await until(lambda: begun)
                await User.objects.aupdate(is_active=False)
                assert await farewell(others) == "deactivated"
                assert await farewell(denied) == "denied"
                await is_open(events, "a")
                assert is_async or len(begun) == 1, "a thread for each try"
            finally:
                free.set()
            hangs.clear()
            await User.objects.aupdate(is_active=True)
            await is_open(events, "a")

    async def test_one_that_hangs_ends_with_its_user(self, settings: Any) -> None:
        hangs, free = threading.Event(), threading.Event()
        begun: list[str] = []

        def hanging(request: Any, channel: str) -> bool:
            if hangs.is_set():
                begun.append(channel)
                free.wait(30)
            return True

        settings.DJANGO_SSE = {**settings.DJANGO_SSE, "AUTHORIZE": hanging}
        _, client = await logged_in()
        async with listen(client, "/events/?channel=a") as events:
            hangs.set()
            try:
                await until(lambda: begun)
                await User.objects.aupdate(is_active=False)
                assert await farewell(events) == "deactivated"
            finally:
                free.set()

    async def test_session_and_user_come_before_what_decides(self, settings: Any) -> None:
        """Where both are asked together, the end of a session does not wait for what decides of the others."""
        asked, free = asyncio.Event(), asyncio.Event()

        async def slow(request: Any, channel: str) -> bool:
            if asked.is_set():
                await free.wait()
            return True

        settings.DJANGO_SSE = {**settings.DJANGO_SSE, "AUTHORIZE": slow}
        _, client = await logged_in()
        async with AsyncExitStack() as stack:
            for _ in range(3):
                await stack.enter_async_context(listen(AsyncClient(), "/events/?channel=a"))
            events = await stack.enter_async_context(listen(client, "/events/?channel=b"))
            asked.set()
            await User.objects.aupdate(is_active=False)
            assert await farewell(events) == "deactivated"
            free.set()

    async def test_no_more_than_a_few_threads_hang(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(examiner, "HANGING", 2)
        hangs, free = threading.Event(), threading.Event()
        begun: list[str] = []

        def hanging(request: Any, channel: str) -> bool:
            if hangs.is_set():
                begun.append(channel)
                free.wait(30)
            return True

        settings.DJANGO_SSE = {**settings.DJANGO_SSE, "AUTHORIZE": hanging}
        _, bobs = await logged_in("bob")
        async with AsyncExitStack() as stack:
            for name in "abcde":
                await stack.enter_async_context(listen(AsyncClient(), f"/events/?channel={name}"))
            events = await stack.enter_async_context(listen(bobs, "/events/?channel=f"))
            hangs.set()
            try:
                await until(lambda: len(begun) >= 2)
                await User.objects.aupdate(is_active=False)
                assert await farewell(events) == "deactivated", "session and user are looked at by others"
                assert len(begun) == 2
            finally:
                free.set()
            await until(lambda: len(begun) > 2)

    async def test_session_and_user_are_looked_at_on_time(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """A crowd whose authoriser costs more than the budget delays what decides, and nothing else."""
        monkeypatch.setattr(rounds, "QUERIES", 0.01)
        asked: list[str] = []

        def costly(request: Any, channel: str) -> bool:
            asked.append(channel)
            return asks_the_database(request, channel) or channel != "none"

        settings.DJANGO_SSE = {**settings.DJANGO_SSE, "AUTHORIZE": costly}
        _, bobs = await logged_in("bob")
        async with AsyncExitStack() as stack:
            for _ in range(30):
                await stack.enter_async_context(listen(AsyncClient(), "/events/?channel=a"))
            await until(lambda: len(asked) > 30)  # from now on no budget is left for minutes
            events = await stack.enter_async_context(listen(bobs, "/events/?channel=b"))
            await User.objects.aupdate(is_active=False)
            assert await farewell(events) == "deactivated"
            assert asked.count("b") == 1
