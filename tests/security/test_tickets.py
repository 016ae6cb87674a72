"""Tickets: short-lived, of one user, for some channels, dead with the session and the password."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import logout
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.models import Session
from django.core import signing
from django.http import JsonResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import include, path
from django.utils import timezone

from django_sse import asend_event, close_streams, retention, tickets
from django_sse.control import CONTROL
from django_sse.examiner import Examiner
from django_sse.models import Event, Head
from django_sse.seal import LONGEST, seal, unseal
from django_sse.testing import Parser, listen
from django_sse.tickets import asign_ticket, sign_ticket
from django_sse.views import EventStreamView
from tests.security.streams import farewell, is_open
from tests.security.waiting import until

pytestmark = pytest.mark.usefixtures("committed")


def ticket_view(request: Any) -> JsonResponse:
    return JsonResponse({"ticket": sign_ticket(request, request.GET.getlist("channel"))})


async def async_ticket_view(request: Any) -> JsonResponse:
    return JsonResponse({"ticket": await asign_ticket(request, request.GET.getlist("channel"))})


urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("fixed/", EventStreamView.as_view(channels=["anything"])),
    path("ticket/", ticket_view),
    path("aticket/", async_ticket_view),
]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": None}


class Signed:
    """Somebody who logged in and had a ticket signed."""

    def __init__(self, *channels: str) -> None:
        self.user = User.objects.create_user("ann", password="before")
        self.client = Client()
        self.client.force_login(self.user)
        self.channels = channels or (f"user.{self.user.pk}",)
        query = "&".join(f"channel={channel}" for channel in self.channels)
        self.ticket: str = self.client.get(f"/ticket/?{query}").json()["ticket"]
        self.address = f"/events/?{query}&ticket={self.ticket}"


signed = sync_to_async(Signed)


async def status(address: str, **headers: str) -> int:
    response: Any = await AsyncClient().get(address, headers=headers)
    if response.streaming:
        await aiter(response.streaming_content).aclose()
    return response.status_code


class TestGood:
    async def test_it_says_who_asks(self) -> None:
        one = await signed()
        async with listen(AsyncClient(), one.address) as events:
            await asend_event(one.channels[0], None, "mine")
            assert (await events.next()).json() == "mine"

    async def test_in_a_header(self) -> None:
        one = await signed()
        address = f"/events/?channel={one.channels[0]}"
        assert await status(address, Authorization=f"Ticket {one.ticket}") == 200
        assert await status(address) == 403

    async def test_some_of_its_channels(self) -> None:
        one = await signed("public.a", "public.b")
        assert await status(f"/events/?channel=public.b&ticket={one.ticket}") == 200

    async def test_for_a_stream_whose_channels_are_fixed(self) -> None:
        one = await signed("anything")
        assert await status(f"/fixed/?ticket={one.ticket}") == 200

    def test_under_wsgi(self) -> None:
        one = Signed()
        Event.objects.create(channel=one.channels[0], data="mine")
        assert [event.data for event in Parser().feed(Client().get(one.address + "&since=0").content)] == ["mine"]

    async def test_signed_in_async_code(self) -> None:
        one = await signed()
        client = AsyncClient()
        client.cookies = one.client.cookies
        ticket = (await client.get(f"/aticket/?channel={one.channels[0]}")).json()["ticket"]
        assert await status(f"/events/?channel={one.channels[0]}&ticket={ticket}") == 200


class TestRefused:
    async def test_other_channels(self) -> None:
        one = await signed("public.a")
        assert await status(f"/events/?channel=public.b&ticket={one.ticket}") == 403
        assert await status(f"/events/?channel=public.a&channel=public.b&ticket={one.ticket}") == 403
        assert await status(f"/fixed/?ticket={one.ticket}") == 403

    async def test_it_permits_nothing(self) -> None:
        """The authoriser decides: a ticket for a channel that one may not read opens nothing."""
        one = await signed("secret.a")
        assert await status(one.address) == 403

    async def test_after_a_minute(self, monkeypatch: pytest.MonkeyPatch) -> None:
        one = await signed()
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + tickets.AGE - 1)
        assert await status(one.address) == 200
        monkeypatch.setattr(time, "time", lambda: now + tickets.AGE + 1)
        assert await status(one.address) == 403

    @pytest.mark.parametrize("spoil", [lambda t: t[:-1], lambda t: "x" + t, lambda t: "", lambda t: "a:b:c"])
    async def test_forged(self, spoil: Any) -> None:
        one = await signed()
        assert await status(f"/events/?channel={one.channels[0]}&ticket={spoil(one.ticket)}") == 403

    async def test_signed_for_something_else(self) -> None:
        one = await signed()
        content = signing.loads(one.ticket, salt="django_sse.tickets")
        other = signing.dumps(content)
        assert await status(f"/events/?channel={one.channels[0]}&ticket={other}") == 403

    async def test_a_bad_one_is_not_helped_by_a_cookie(self) -> None:
        one = await signed()
        response = await sync_to_async(one.client.get)(f"/events/?channel={one.channels[0]}&ticket=x")
        assert response.status_code == 403

    @pytest.mark.parametrize(
        "end",
        [
            lambda one: log_out(one),
            lambda one: one.user.set_password("after") or one.user.save(),
            lambda one: User.objects.filter(pk=one.user.pk).update(password="after"),
            lambda one: User.objects.filter(pk=one.user.pk).update(is_active=False),
            lambda one: one.user.delete(),
            lambda one: close_streams(user=one.user),
            lambda one: close_streams(channel=one.channels[0]),
            lambda one: Session.objects.all().delete(),
            lambda one: logged_in_as_another(one),
        ],
        ids=[
            *["logout", "password", "password unseen", "inactive", "deleted", "closed", "channel closed"],
            *["session deleted", "session is another's"],
        ],
    )
    async def test_after_the_right_has_ended(self, end: Any) -> None:
        one = await signed()
        await Event.objects.acreate(channel=CONTROL, data="nonsense")
        assert await status(one.address) == 200
        await sync_to_async(end)(one)
        assert await status(one.address) == 403

    @pytest.mark.parametrize("lose", [lambda: retention.trim(keep=1), lambda: Head.objects.update(position=0)])
    async def test_where_a_notice_may_be_gone(self, lose: Any) -> None:
        """The log was trimmed past the moment of signing, or is one from a backup."""
        await asend_event("public.a", None, 1)
        one = await signed()
        await sync_to_async(log_out)(one)
        for number in range(3):
            await asend_event("public.a", None, number)
        await sync_to_async(lose)()
        await Event.objects.filter(channel=CONTROL).adelete()
        assert await status(one.address) == 403

    async def test_after_the_session_has_run_out(self, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
        settings.SESSION_COOKIE_AGE = 5
        one = await signed()
        assert await status(one.address) == 200
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 6)
        assert await status(one.address) == 403

    def test_what_cannot_be_signed(self) -> None:
        request: Any = RequestFactory().get("/")
        request.user = AnonymousUser()
        with pytest.raises(ValueError, match="Nobody is logged in"):
            sign_ticket(request, ["public.a"])
        request.user = User.objects.create_user("ann")
        with pytest.raises(ValueError, match="not a channel name"):
            sign_ticket(request, [CONTROL])
        with pytest.raises(ValueError, match="Name the channels"):
            sign_ticket(request, [])


class TestWhileOpen:
    async def test_logging_out_closes_its_stream(self) -> None:
        one = await signed()
        async with listen(AsyncClient(), one.address) as events:
            await sync_to_async(log_out)(one)
            assert await farewell(events) == "logout"

    @pytest.mark.parametrize(
        ("end", "reason"),
        [
            (lambda one: User.objects.update(password="after"), "expired"),
            (lambda one: User.objects.update(is_active=False), "deactivated"),
            (lambda one: User.objects.all().delete(), "deactivated"),
            (lambda one: Session.objects.all().delete(), "expired"),
            (lambda one: one.client.session.flush(), "expired"),
            (lambda one: one.client.session.cycle_key(), "expired"),
            (lambda one: logged_in_as_another(one), "expired"),
        ],
    )
    async def test_it_is_asked_again_like_any_other(self, settings: Any, end: Any, reason: str) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.2}
        one = await signed()
        async with listen(AsyncClient(), one.address) as events:
            await asend_event(one.channels[0], None, "still")
            assert (await events.next()).json() == "still"
            await sync_to_async(end)(one)
            assert await farewell(events) == reason

    async def test_it_outlives_its_minute_but_not_its_session(self, settings: Any, monkeypatch: Any) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.2}
        one = await signed()
        end = (await Session.objects.aget()).expire_date.timestamp()
        now = time.time()
        async with listen(AsyncClient(), one.address) as events:
            monkeypatch.setattr(time, "time", lambda: now + 2 * tickets.AGE)
            await asend_event(one.channels[0], None, "still")
            assert (await events.next()).json() == "still"
            later = timezone.now().fromtimestamp(end + 1, timezone.get_current_timezone())
            monkeypatch.setattr(timezone, "now", lambda: later)
            assert await farewell(events) == "expired"

    async def test_it_is_given_no_session(self, settings: Any) -> None:
        """Whoever has a ticket has no session, also when the authoriser is asked again."""
        seen: list[Any] = []

        def authorize(request: Any, channel: str) -> bool:
            seen.append((request.session.session_key, dict(request.session.items())))
            return True

        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1, "AUTHORIZE": authorize}
        one = await signed()
        async with listen(AsyncClient(), one.address):
            await until(lambda: len(seen) > 2)
        assert seen == [(None, {})] * len(seen)

    @pytest.mark.parametrize(
        "engine", ["db", "cache", "cached_db", "file"], ids=lambda engine: f"django.contrib.sessions.backends.{engine}"
    )
    async def test_in_every_store_of_sessions(self, settings: Any, engine: str, tmp_path: Any) -> None:
        settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
        settings.SESSION_FILE_PATH = str(tmp_path)
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1}
        one = await signed()
        async with listen(AsyncClient(), one.address) as events:
            await asend_event(one.channels[0], None, "still")
            assert (await events.next()).json() == "still"
            await sync_to_async(lambda: one.client.session.flush())()
            assert await farewell(events) == "expired"
        assert await status(one.address) == 403

    async def test_where_the_session_is_the_cookie(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        """There is none to be looked for: the ticket's stream ends when that one would have."""
        settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1}
        one = await signed()
        assert signing.loads(one.ticket, salt="django_sse.tickets")["k"] is None
        async with listen(AsyncClient(), one.address) as events:
            await asend_event(one.channels[0], None, "still")
            assert (await events.next()).json() == "still"
            later = timezone.now() + timedelta(seconds=settings.SESSION_COOKIE_AGE + 1)
            monkeypatch.setattr(timezone, "now", lambda: later)
            assert await farewell(events) == "expired"

    async def test_a_session_that_was_prolonged(self, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1}
        one = await signed()
        session = await Session.objects.aget()
        later = session.expire_date + timedelta(seconds=1)
        await Session.objects.aupdate(expire_date=session.expire_date + timedelta(days=1))
        asked: list[Any] = []
        examine = Examiner.examine

        async def noted(self: Examiner, *args: Any) -> Any:
            asked.append(await examine(self, *args))
            return asked[-1]

        async with listen(AsyncClient(), one.address) as events:
            monkeypatch.setattr(timezone, "now", lambda: later)
            monkeypatch.setattr(Examiner, "examine", noted)
            await until(lambda: len(asked) > 2)
            await asend_event(one.channels[0], None, "still")
            assert (await events.next()).json() == "still"


class Unlocked(ModelBackend):
    """A backend of the project's own, to whose users something can happen that Django knows nothing of."""

    def user_can_authenticate(self, user: Any) -> bool:
        return super().user_can_authenticate(user) and user.last_name != "locked"


class Found(ModelBackend):
    """The same, where it is the user that is not found."""

    def get_user(self, user_id: Any) -> Any:
        return User.objects.filter(pk=user_id).exclude(last_name="locked").first()


class TestBackend:
    """It is asked for whom it logged in, as for a stream with the cookie of that session."""

    @pytest.fixture(autouse=True)
    def _often(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.2}

    async def ends(self, one: Signed, end: Any, reason: str) -> None:
        client = AsyncClient()
        client.cookies = one.client.cookies
        channel = one.channels[0]
        async with (
            listen(client, f"/events/?channel={channel}") as events,
            listen(AsyncClient(), one.address) as others,
        ):
            await is_open(others, channel)
            assert (await events.next()).json() == "still"
            await sync_to_async(end)()
            assert await farewell(events) == reason
            assert await farewell(others) == reason
        assert await status(one.address) == 403

    @pytest.mark.parametrize("backend", [Unlocked, Found])
    async def test_one_of_the_projects_own_says_no(self, settings: Any, backend: type) -> None:
        settings.AUTHENTICATION_BACKENDS = [f"{__name__}.{backend.__name__}"]
        await self.ends(await signed(), lambda: User.objects.update(last_name="locked"), "deactivated")

    async def test_one_that_is_configured_no_more(self, settings: Any) -> None:
        def configure() -> None:
            settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Unlocked"]

        await self.ends(await signed(), configure, "expired")


class TestSessionKey:
    """It is as good as the cookie, and a ticket stands in access logs."""

    async def test_nobody_can_read_it(self, caplog: pytest.LogCaptureFixture) -> None:
        one = await signed()
        key = one.client.session.session_key
        content = signing.loads(one.ticket, salt="django_sse.tickets")
        texts = [one.ticket, *(str(value) for value in content.values())]
        for text in texts:
            assert key not in text
            with suppress(ValueError):
                assert key.encode() not in signing.b64_decode(text.encode())
        ticket = await sync_to_async(tickets.redeem)(one.ticket)
        assert ticket is not None
        assert ticket.session_key == key
        assert key not in f"{ticket!r}{ticket}"
        caplog.set_level(0)
        async with listen(AsyncClient(), one.address):
            await sync_to_async(lambda: Session.objects.all().delete())()
        assert key not in caplog.text

    async def test_no_two_tickets_hide_it_alike(self) -> None:
        one = await signed()
        sealed = set()
        for _ in range(3):
            response = await sync_to_async(one.client.get)("/ticket/?channel=public.a")
            sealed.add(signing.loads(response.json()["ticket"], salt="django_sse.tickets")["k"])
        assert len(sealed) == 3
        raw = [signing.b64_decode(one.encode())[16:] for one in sealed]
        assert len({one[:4] for one in raw}) == 3, "not one pad for all"

    async def test_after_the_secret_key_was_changed(self, settings: Any) -> None:
        old = settings.SECRET_KEY
        one = await signed()
        settings.SECRET_KEY = "new"
        settings.SECRET_KEY_FALLBACKS = ["older", old]
        ticket = await sync_to_async(tickets.redeem)(one.ticket)
        assert ticket is not None
        assert ticket.session_key == one.client.session.session_key
        settings.SECRET_KEY_FALLBACKS = []
        assert await status(one.address) == 403

    async def test_one_that_does_not_belong_to_the_ticket_opens_nothing(self) -> None:
        one = await signed()
        content = signing.loads(one.ticket, salt="django_sse.tickets")
        assert await sync_to_async(tickets.redeem)(signing.dumps(content, salt="django_sse.tickets")) is not None
        other = signing.dumps({**content, "k": seal("x" * 32)}, salt="django_sse.tickets")
        assert await sync_to_async(tickets.redeem)(other) is None

    @pytest.mark.parametrize("secret", ["", "a", "ü" * 32, "x" * LONGEST])
    def test_a_seal_shows_what_it_hid(self, secret: str) -> None:
        assert list(unseal(seal(secret) or "")) == [secret]

    def test_what_is_longer_than_a_pad_is_not_sealed(self) -> None:
        assert seal("x" * (LONGEST + 1)) is None
        assert seal("ü" * LONGEST) is None


def logged_in_as_another(one: Signed) -> None:
    """In the same session, as somebody who knows its key by then: the row is another user's."""
    other = User.objects.create_user("bob")
    row = Session.objects.get()
    store = one.client.session
    store["_auth_user_id"] = str(other.pk)
    row.session_data = store.encode(dict(store.items()))
    row.save()


def log_out(one: Signed) -> None:
    request: Any = RequestFactory().get("/")
    request.session = one.client.session
    request.user = one.user
    logout(request)
