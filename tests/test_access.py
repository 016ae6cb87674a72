from __future__ import annotations

import errno
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import OperationalError
from django.test import RequestFactory

from django_sse.access import authorize, is_allowed
from django_sse.channels import check_channel, user_channel

if TYPE_CHECKING:
    from django.http import HttpRequest


def request(user: Any = None) -> HttpRequest:
    made = RequestFactory().get("/events/")

    async def auser() -> Any:
        return user or AnonymousUser()

    made.auser = auser
    return made


class TestBuiltInRules:
    @pytest.mark.parametrize("channel", ["public.orders", "public.", "public.a.b"])
    async def test_public_is_everyones(self, channel: str) -> None:
        assert await authorize(request(), channel) is True
        assert await authorize(RequestFactory().get("/"), channel) is True

    @pytest.mark.parametrize("channel", ["orders", "publicity", "Public.a", "xpublic.a", "user.", "user.None"])
    async def test_anything_else_is_nobodys(self, channel: str) -> None:
        assert await authorize(request(User(pk=7)), channel) is False
        assert await authorize(request(), channel) is False

    @pytest.mark.parametrize(("channel", "allowed"), [("user.7", True), ("user.70", False), ("user.07", False)])
    async def test_a_users_channel_is_that_users(self, channel: str, allowed: bool) -> None:
        assert await authorize(request(User(pk=7)), channel) is allowed
        assert await authorize(request(), channel) is False

    async def test_without_authentication_there_are_no_users(self) -> None:
        assert await authorize(RequestFactory().get("/"), "user.7") is False

    async def test_a_key_that_no_channel_can_hold_has_no_channel(self) -> None:
        user = SimpleNamespace(pk="ann@example.org", is_authenticated=True)
        assert await authorize(request(user), "user.ann") is False

    def test_user_channel(self) -> None:
        assert user_channel(User(pk=7)) == "user.7"
        assert user_channel(User(pk=UUID(int=1))) == "user.00000000-0000-0000-0000-000000000001"
        with pytest.raises(ValueError, match="no primary key"):
            user_channel(User())


class TestChannelNames:
    @pytest.mark.parametrize("name", ["a", "A-z_0.9~", "x" * 100])
    def test_good(self, name: str) -> None:
        assert check_channel(name) == name

    @pytest.mark.parametrize(
        "name", ["", "a b", "a\n", "é", "a/b", "a%20", "x" * 101, None, 7, b"a", "\uff41", "\u212a"]
    )
    def test_bad(self, name: Any) -> None:
        with pytest.raises(ValueError, match="not a channel name: 1 to 100 of"):
            check_channel(name)


def sync_yes(request: HttpRequest, channel: str) -> bool:
    User.objects.count()  # a sync authoriser may ask the database
    return True


async def async_yes(request: HttpRequest, channel: str) -> bool:
    return True


class CallableYes:
    async def __call__(self, request: HttpRequest, channel: str) -> bool:
        return True


class TestConfigured:
    @pytest.mark.django_db(transaction=True)
    @pytest.mark.parametrize("authorizer", [sync_yes, async_yes, CallableYes(), f"{__name__}.async_yes"])
    async def test_true_allows(self, settings: Any, authorizer: Any) -> None:
        settings.DJANGO_SSE = {"AUTHORIZE": authorizer}
        assert await is_allowed(request(), ["a", "b"])

    @pytest.mark.parametrize("answer", [None, False, 1, "yes", [True], object()])
    async def test_nothing_else_does(self, settings: Any, answer: Any) -> None:
        async def authorizer(request: HttpRequest, channel: str) -> Any:
            return answer

        settings.DJANGO_SSE = {"AUTHORIZE": authorizer}
        assert not await is_allowed(request(), ["a"])
        settings.DJANGO_SSE = {"AUTHORIZE": lambda request, channel: answer}
        assert not await is_allowed(request(), ["a"])

    async def test_a_forgotten_await_is_no_yes(self, settings: Any) -> None:
        async def no(request: HttpRequest, channel: str) -> bool:
            return False

        settings.DJANGO_SSE = {"AUTHORIZE": lambda request, channel: no(request, channel)}
        assert not await is_allowed(request(), ["a"])

    async def test_all_or_nothing(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"AUTHORIZE": lambda request, channel: channel == "mine"}
        assert await is_allowed(request(), ["mine"])
        assert not await is_allowed(request(), ["mine", "theirs"])
        assert not await is_allowed(request(), ["theirs", "mine"])

    async def test_one_that_raises_has_said_no(self, settings: Any, caplog: pytest.LogCaptureFixture) -> None:
        def broken(request: HttpRequest, channel: str) -> bool:
            raise KeyError

        settings.DJANGO_SSE = {"AUTHORIZE": broken}
        assert not await is_allowed(request(), ["secret"])
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        assert "secret" not in caplog.records[0].getMessage()

    async def test_without_descriptors_it_has_said_nothing(self, settings: Any) -> None:
        def exhausted(request: HttpRequest, channel: str) -> bool:
            raise OSError(errno.EMFILE, "Too many open files")

        settings.DJANGO_SSE = {"AUTHORIZE": exhausted}
        with pytest.raises(OperationalError):
            await is_allowed(request(), ["a"])
