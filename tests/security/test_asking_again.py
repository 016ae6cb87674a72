"""Asking again whether an open stream is still allowed: what is asked, what it costs, what is no answer."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import weakref
from contextlib import AsyncExitStack
from types import FunctionType
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.core.cache.backends.base import InvalidCacheKey
from django.core.cache.backends.locmem import LocMemCache
from django.core.handlers.asgi import ASGIRequest
from django.db import OperationalError, connection, connections
from django.test import AsyncClient, AsyncRequestFactory
from django.urls import include, path

from django_sse import aclose_streams, examiner, grant, recheck, rounds
from django_sse.examiner import Examiner
from django_sse.grant import Grant
from django_sse.testing import listen
from django_sse.tickets import sign_ticket
from django_sse.views import EventStreamView
from tests.security.asked import Mine, asks_the_database
from tests.security.people import logged_in
from tests.security.streams import farewell, is_open
from tests.security.waiting import until, watching
from tests.shop.models import Order

pytestmark = pytest.mark.usefixtures("committed")

urlpatterns = [
    path("mine/<int:pk>/", Mine.as_view()),
    path("events/", include("django_sse.urls")),
    path("fixed/", EventStreamView.as_view(channels=["anything"])),
]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": None}


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

    @pytest.mark.parametrize("by_ticket", [False, True])
    async def test_the_cache_of_the_sessions_away_closes_nothing(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, sessions_in_a_cache: None, by_ticket: bool
    ) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1}
        monkeypatch.setattr(rounds, "AGAIN", 0.1)
        user, client = await logged_in()
        address = f"/events/?channel=user.{user.pk}"
        asking = client
        if by_ticket:
            request: Any = AsyncRequestFactory().get("/")
            request.session, request.user = CacheStore(client.cookies["sessionid"].value), user
            address += f"&ticket={await sync_to_async(sign_ticket)(request, [f'user.{user.pk}'])}"
            asking = AsyncClient()
        async with listen(asking, address) as events:
            Unreliable.failures = 0
            with monkeypatch.context() as patch:
                patch.setattr(Unreliable, "away", True)
                await until(lambda: Unreliable.failures >= 6)
                if by_ticket:  # nobody has said no here either
                    assert (await asking.get(address)).status_code == 200
                await is_open(events, f"user.{user.pk}")
            await is_open(events, f"user.{user.pk}")
            await CacheStore().adelete(client.cookies["sessionid"].value)
            assert await farewell(events) == "expired"

    async def test_one_session_that_cannot_be_read_closes_no_other(self, sessions_in_a_cache: None) -> None:
        """It is none for Django: one that was pickled by another version, or a cookie that is no key of the cache."""
        _, client = await logged_in()
        good = client.cookies["sessionid"].value
        cache: Any = caches["unreliable"]
        spoilt = CacheStore("x" * 32)
        cache._cache[cache.make_key(spoilt.cache_key)] = b"no pickle"
        cache._expire_info[cache.make_key(spoilt.cache_key)] = None
        keys = {"x" * 32, good, "gone" * 8, "not a key"}
        assert set(await sync_to_async(recheck.read_sessions)(keys)) == {good}

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

    @pytest.mark.parametrize("address", ["/events/?channel=public.a", "/mine/{}/"])
    async def test_a_stream_keeps_no_request(self, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
        kept: list[Any] = []
        of = Grant.of

        async def note(request: Any, *args: Any) -> Any:
            kept.append(weakref.ref(request))
            return await of(request, *args)

        monkeypatch.setattr(Grant, "of", note)
        user, client = await logged_in()
        order = await Order.objects.acreate(state=f"of {user.pk}")
        response: Any = await client.get(address.format(order.pk))
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
            if isinstance(one, FunctionType):
                pending += one.__closure__ or ()  # its globals are no stream's
            elif not callable(one) or one is grant.ask:
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


class Unreliable(LocMemCache):
    """A cache whose server can be ``away``, and that has memcached's rule for keys."""

    away = False
    failures = 0

    def validate_key(self, key: str) -> None:
        if self.away:
            type(self).failures += 1
            raise ConnectionError("the cache is away")
        if " " in key:
            raise InvalidCacheKey(key)


@pytest.fixture
def sessions_in_a_cache(settings: Any) -> Any:
    settings.CACHES = {**settings.CACHES, "unreliable": {"BACKEND": f"{__name__}.Unreliable", "LOCATION": __name__}}
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    settings.SESSION_CACHE_ALIAS = "unreliable"
    yield
    caches["unreliable"].clear()


SET_UP = {"sqlite": 1, "postgresql": 1, "mysql": 2}[connection.vendor]
"""Statements with which Django sets up a connection: they are counted too, for each thread that opens one."""


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


async def test_who_has_ended_is_not_kept_until_their_turn() -> None:
    """Whoever comes and goes quickly would fill the memory with what they sent."""

    class Gone:
        grant: Any = None

        def close(self, reason: str, *, final: bool = True) -> None: ...

    turns, gone = rounds.Rounds(), Gone()
    kept = weakref.ref(gone)
    turns.add(gone)
    turns._plan(gone)
    turns.discard(gone)
    del gone
    gc.collect()
    assert kept() is None


def test_what_a_client_has_for_itself_is_not_kept_after_its_stream() -> None:
    """``sys.intern`` would, on some Pythons."""
    own = {
        "HTTP_AUTHORIZATION": "Ticket",
        "HTTP_COOKIE": "sessionid",
        "QUERY_STRING": "since",
        "HTTP_X_LONG": "x" * 301,
    }
    for number in range(3):
        request: Any = AsyncRequestFactory().get("/")
        request.META.update({name: f"{value}{number}" for name, value in own.items()}, HTTP_X_SITE="shared" * 2)
        request.user = User(pk=number)
        before = grant._one_of.cache_info()
        made = Grant(request, request.user, by_session=False, position=0)
        after = grant._one_of.cache_info()
        assert {name: made._headers[name] for name in own} == {name: request.META[name] for name in own}
    assert after.misses == before.misses, "what is the same for all is there already"
    assert after.maxsize
