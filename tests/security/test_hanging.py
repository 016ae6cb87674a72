"""What raises or hangs when it is asked again spoils its own answer, and no other stream's."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import AsyncExitStack
from typing import Any

import pytest
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import AsyncClient
from django.urls import include, path

from django_sse import examiner, rounds
from django_sse.testing import listen
from django_sse.views import EventStreamView
from tests.security.asked import Hanging, Mine, asked_view, asks_the_database, function_view
from tests.security.people import logged_in
from tests.security.streams import farewell, is_open
from tests.security.waiting import until
from tests.shop.models import Order

pytestmark = pytest.mark.usefixtures("committed")

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
        # Warnings too, where the machine is so busy that a question is not answered in time.
        errors = [one for one in caplog.records if one.name.startswith("django_sse") and one.levelno >= logging.ERROR]
        assert [record.getMessage() for record in errors] == ["What decides about a stream raised, so it is closed"]
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
        hanging = Hanging()
        settings.DJANGO_SSE = {**settings.DJANGO_SSE, "AUTHORIZE": hanging}
        _, client = await logged_in()
        async with listen(client, "/events/?channel=a") as events:
            with hanging.meanwhile():
                await until(lambda: hanging.begun)
                await User.objects.aupdate(is_active=False)
                assert await farewell(events) == "deactivated"

    async def test_no_more_than_a_few_threads_hang(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(examiner, "HANGING", 2)
        hanging = Hanging()
        settings.DJANGO_SSE = {**settings.DJANGO_SSE, "AUTHORIZE": hanging}
        _, bobs = await logged_in("bob")
        async with AsyncExitStack() as stack:
            for name in "abcde":
                await stack.enter_async_context(listen(AsyncClient(), f"/events/?channel={name}"))
            events = await stack.enter_async_context(listen(bobs, "/events/?channel=f"))
            with hanging.meanwhile():
                await until(lambda: len(hanging.begun) >= 2)
                await User.objects.aupdate(is_active=False)
                assert await farewell(events) == "deactivated", "session and user are looked at by others"
                assert len(hanging.begun) == 2
            await until(lambda: len(hanging.begun) > 2)

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
