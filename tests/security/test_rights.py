"""Rights that end by ways that the matrix does not take, and what may keep that from being told or found."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from contextlib import AsyncExitStack
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user, logout
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.core import signing
from django.db import OperationalError, transaction
from django.test import AsyncClient, RequestFactory
from django.urls import include, path

from django_sse import aclose_streams, asend_event, examiner, revocation, rounds, warden
from django_sse.access import Rules, own, permission, staff
from django_sse.control import CONTROL, Notice
from django_sse.hub import Hub
from django_sse.models import Event
from django_sse.publish import send_notice
from django_sse.testing import listen
from django_sse.tickets import asign_ticket, redeem, sign_ticket
from django_sse.views import EventStreamView
from tests.security.asked import Hanging
from tests.security.people import logged_in
from tests.security.streams import body, farewell
from tests.security.waiting import until, watching

pytestmark = pytest.mark.usefixtures("committed")

urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("fixed/", EventStreamView.as_view(channels=["anything"])),
]
RULES = Rules({"user.<pk>": own, "staff.*": staff, "report.*": permission("shop.view_order"), "public.*": True})


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    """Nobody is asked again unless a notice says so."""
    settings.ROOT_URLCONF = __name__
    settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": None, "AUTHORIZE": RULES}


async def nobody_hangs() -> None:
    """Wait until each question has its answer: a thread that outlives its event loop leaves its connection open."""
    asker = watching()._rounds._asker
    await until(lambda: not asker.hangs)


def may_view() -> Permission:
    return Permission.objects.get(codename="view_order")


@sync_to_async
def member(user: User) -> Group:
    """Return a group with the permission, of which ``user`` is the one member."""
    group = Group.objects.create(name=f"of {user}")
    group.permissions.add(may_view())
    group.user_set.add(user)
    return group


class TestTold:
    async def test_a_password_that_was_assigned(self) -> None:
        """A hash of another system: ``set_password`` was not called, ``update_fields`` tells it."""
        user, client = await logged_in()
        async with listen(client, f"/events/?channel=user.{user.pk}") as events:
            user.password = make_password("after")
            await user.asave(update_fields=["password"])
            assert await farewell(events) == "password"

    @pytest.mark.parametrize("field", ["is_staff", "is_superuser"])
    async def test_a_role_that_was_taken_away(self, field: str) -> None:
        user, client = await logged_in(is_staff=True, is_superuser=True)
        channel = {"is_staff": "staff.a", "is_superuser": "report.a"}[field]
        async with listen(client, f"/events/?channel={channel}") as events:
            setattr(user, field, False)
            await user.asave(update_fields=[field])
            assert await farewell(events) == "denied"

    async def test_a_permission_of_their_own(self) -> None:
        user, client = await logged_in()
        await sync_to_async(lambda: user.user_permissions.add(may_view()))()
        async with listen(client, "/events/?channel=report.a") as events:
            await sync_to_async(lambda: user.user_permissions.remove(may_view()))()
            assert await farewell(events) == "denied"

    @pytest.mark.parametrize(
        "end",
        [
            lambda group, user: group.user_set.remove(user),
            lambda group, user: group.user_set.clear(),
            lambda group, user: group.user_set.set([]),
            lambda group, user: user.groups.remove(group),
            lambda group, user: group.permissions.remove(may_view()),
            lambda group, user: may_view().group_set.remove(group),
            lambda group, user: may_view().group_set.clear(),
            lambda group, user: may_view().group_set.set([]),
        ],
    )
    async def test_a_group_from_either_side(self, end: Any) -> None:
        user, client = await logged_in()
        group = await member(user)
        async with listen(client, "/events/?channel=report.a") as events:
            await sync_to_async(end)(group, user)
            assert await farewell(events) == "denied"

    async def test_a_group_of_more_than_a_notice_names(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(revocation, "MEMBERS", 2)
        user, client = await logged_in()
        group = await member(user)
        for number in range(3):
            await sync_to_async(group.user_set.add)(await User.objects.acreate_user(f"number {number}"))
        keys = await sync_to_async(lambda: set(group.user_set.values_list("pk", flat=True)[:2]))()
        last = await group.user_set.exclude(pk__in=keys).alast()
        assert last
        other = AsyncClient()
        await other.aforce_login(last)
        async with (
            listen(client, "/events/?channel=report.a") as events,
            listen(other, "/events/?channel=report.a") as others,
        ):
            await group.adelete()
            assert await farewell(events) == "denied"
            assert await farewell(others) == "denied"

    @pytest.mark.parametrize("engine", ["django.contrib.sessions.backends.signed_cookies", "tests.security.cookies"])
    async def test_logging_out_of_a_session_that_is_a_cookie(self, settings: Any, engine: str) -> None:
        """Its key is not the same from request to request, so the user is named. Also in a store of the project's."""
        settings.SESSION_ENGINE = engine
        user, client = await logged_in()

        def log_out() -> None:
            request: Any = RequestFactory().get("/")
            request.session = client.session
            request.session["seen"] = "a moment later"
            request.session.save()
            request.user = get_user(request)
            logout(request)

        async with listen(client, f"/events/?channel=user.{user.pk}") as events:
            await sync_to_async(log_out)()
            assert await farewell(events) == "logout"

    def test_users_of_another_database_are_told_of_when_that_commits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        waiting: list[Any] = []
        monkeypatch.setattr(transaction, "on_commit", lambda work, using: waiting.append((using, work)))
        user = User.objects.create_user("ann", is_active=False)
        revocation._user_deleted(instance=user, using="users")
        assert not Event.objects.exists()
        ((using, work),) = waiting
        assert using == "users"
        monkeypatch.undo()
        work()
        assert json.loads(Event.objects.get().data) == {"reason": "deactivated", "users": [str(user.pk)]}


class TestAskedAgain:
    @pytest.fixture(autouse=True)
    def _often(self, settings: Any) -> None:
        settings.DJANGO_SSE = {**settings.DJANGO_SSE, "RECHECK": 0.2}

    async def test_a_session_that_is_somebody_elses_now(self) -> None:
        _, client = await logged_in()
        other = await User.objects.acreate_user("bob", password="before")

        def change() -> None:
            session = client.session
            session["_auth_user_id"] = str(other.pk)
            session["_auth_user_hash"] = other.get_session_auth_hash()
            session.save()

        async with listen(client, "/fixed/") as events:
            await sync_to_async(change)()
            assert await farewell(events) == "expired"

    async def test_a_backend_that_is_configured_no_more(self, settings: Any) -> None:
        _, client = await logged_in()
        async with listen(client, "/fixed/") as events:
            settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Own"]
            assert await farewell(events) == "expired"

    async def test_a_backend_that_hangs_holds_up_no_other(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is asked for each stream by itself, once sessions and users have been read for all."""
        settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Own"]
        monkeypatch.setattr(rounds, "AGAIN", 0.2)
        monkeypatch.setattr(examiner, "PATIENCE", 0.3)
        hangs, free = threading.Event(), threading.Event()
        ann, anns = await logged_in()
        bob, bobs = await logged_in("bob")

        def hanging(user_id: Any) -> Any:
            if hangs.is_set() and user_id == ann.pk:
                free.wait(30)
            return ModelBackend().get_user(user_id)

        monkeypatch.setattr(Own, "get", staticmethod(hanging))
        async with listen(anns, "/fixed/") as mine, listen(bobs, "/fixed/") as others:
            hangs.set()
            try:
                await User.objects.filter(pk=bob.pk).aupdate(is_active=False)
                assert await farewell(others) == "deactivated"
                await asend_event("anything", None, "still")
                assert (await mine.next()).json() == "still"
            finally:
                hangs.clear()
                free.set()
            await nobody_hangs()

    async def test_a_user_who_was_deleted_by_sql(self) -> None:
        user, client = await logged_in()
        async with listen(client, "/fixed/") as events:
            await sync_to_async(lambda: User.objects.filter(pk=user.pk)._raw_delete("default"))()
            assert await farewell(events) == "deactivated"

    async def test_those_who_are_nearly_due_are_asked_together(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sessions and users are one question for all of them."""
        together: list[int] = []
        examine = examiner.Examiner.examine

        async def noted(self: Any, grants: Any, *args: Any) -> Any:
            together.append(len(grants))
            return await examine(self, grants, *args)

        monkeypatch.setattr(examiner.Examiner, "examine", noted)
        async with AsyncExitStack() as stack:
            for _ in range(10):
                await stack.enter_async_context(listen(AsyncClient(), "/events/?channel=public.a"))
            await until(lambda: max(together, default=0) == 10)

    async def test_beyond_a_few_that_hang_nobody_is_asked(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Each of them is a thread that nothing can end."""
        monkeypatch.setattr(examiner, "HANGING", 2)
        monkeypatch.setattr(examiner, "PATIENCE", 0.1)
        monkeypatch.setattr(rounds, "AGAIN", 0.1)
        hanging = Hanging()
        settings.DJANGO_SSE = {**settings.DJANGO_SSE, "AUTHORIZE": hanging}
        async with AsyncExitStack() as stack:
            for name in "abcd":
                await stack.enter_async_context(listen(AsyncClient(), f"/events/?channel={name}"))
            with hanging.meanwhile():
                await until(lambda: "2 earlier questions have no answer yet" in caplog.text)
                assert len(hanging.begun) == 2
            await until(lambda: len(hanging.begun) > 2)
            await nobody_hangs()

    async def test_the_words_of_what_could_not_answer_are_not_logged(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(rounds, "AGAIN", 0.1)

        words = ".".join(["private", "ann"])  # so that the line of source, which a traceback quotes, is no hit

        async def late(self: Any, request: Any) -> Any:
            raise TimeoutError(words)

        async with listen(AsyncClient(), "/fixed/"):
            monkeypatch.setattr(EventStreamView, "get_channels", late)
            await until(lambda: "could not be asked again" in caplog.text)
        ours = [record for record in caplog.records if record.name.startswith("django_sse")]
        assert words not in "\n".join(logging.Formatter().format(record) for record in ours)


class Own(ModelBackend):
    """A backend of the project's own."""

    get: Any = staticmethod(ModelBackend().get_user)

    def get_user(self, user_id: Any) -> Any:
        return self.get(user_id)


class TestNotices:
    async def test_a_warden_that_failed_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        user, client = await logged_in()
        read = warden.Warden._read
        failed = threading.Event()

        async def once(self: Any) -> None:
            if not failed.is_set():
                failed.set()
                raise OperationalError("away")
            await read(self)

        async with listen(client, "/fixed/") as events:
            monkeypatch.setattr(warden.Warden, "_read", once)
            await until(failed.is_set)
            await aclose_streams(user=user, reason="because")
            assert await farewell(events) == "because"

    async def test_one_that_was_heard_while_the_stream_was_being_opened(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """By the whole process: the log had gone on before the stream was admitted."""
        user, client = await logged_in()
        decide = EventStreamView._decide

        async def and_then_it_ends(self: Any, request: Any) -> Any:
            decided = await decide(self, request)
            await aclose_streams(user=user, reason="meanwhile")
            await until(lambda: Hub.current().ring.head == 1)
            return decided

        async with listen(AsyncClient(), "/fixed/"):
            monkeypatch.setattr(EventStreamView, "_decide", and_then_it_ends)
            response: Any = await client.get("/fixed/")
            text = await body(response)
        assert b'{"reason": "meanwhile"}' in text

    async def test_the_end_of_a_session_does_not_wait_for_the_others_authoriser(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor for the patience that it is given, where all are asked together."""
        monkeypatch.setattr(examiner, "PATIENCE", 60)
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
            await User.objects.aupdate(is_active=False)
            asked.set()
            await sync_to_async(send_notice)(Notice("rights", ask=True).encode())
            assert await farewell(events) == "deactivated"
            free.set()

    def test_a_ticket_knows_of_one_that_has_no_position_yet(self) -> None:
        """Its publisher may have died, or may be about to give it one."""
        request: Any = RequestFactory().get("/")
        request.user = User.objects.create_user("ann")
        ticket = sign_ticket(request, ["public.a"])
        assert redeem(ticket)
        Event.objects.create(channel=CONTROL, data=Notice("because", frozenset({str(request.user.pk)})).encode())
        assert redeem(ticket) is None

    async def test_nothing_that_is_stored_holds_the_key_of_a_session(self) -> None:
        """Whoever reads the log, or a ticket, is not to be somebody."""
        user, client = await logged_in()
        request: Any = RequestFactory().get("/")
        request.user, request.session = user, await sync_to_async(lambda: client.session)()
        key = request.session.session_key
        content = signing.loads(await asign_ticket(request, ["public.a"]), salt="django_sse.tickets")
        await client.alogout()
        notice = await Event.objects.aget()
        assert content["s"] == json.loads(notice.data)["session"]
        assert key[:8] not in json.dumps(content) + notice.data

    async def test_who_missed_more_than_is_remembered_is_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As a stream that takes long to be opened, while many rights end."""
        monkeypatch.setattr(warden, "REMEMBERED", 2)
        user, client = await logged_in()
        async with listen(AsyncClient(), "/fixed/"):
            response: Any = await client.get("/fixed/")
            await Session.objects.all().adelete()
            for number in range(5):
                await aclose_streams(user=user.pk + 1, reason=f"number {number}")
            noted: Any = Hub.current().warden
            await until(lambda: [one.notice.reason for one in noted._notices] == ["number 3", "number 4"])
            text = await body(response)
        assert b'{"reason": "expired"}' in text
