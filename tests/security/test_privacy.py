"""What is nobody's business: caches, logs, headers, the admin, the broker, and what was purged."""

from __future__ import annotations

import ast
import asyncio
import json
import logging
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import OperationalError
from django.test import AsyncClient, AsyncRequestFactory, Client
from django.urls import include, path, reverse

from django_sse import aclose_streams, asend_event, close_streams, publish, send_event
from django_sse.asgi import get_asgi_application
from django_sse.brokers import get_broker
from django_sse.brokers.redis import RedisBroker
from django_sse.channels import token_channel
from django_sse.hub import Hub
from django_sse.models import Event
from django_sse.testing import Parser, listen
from django_sse.tickets import asign_ticket
from tests.security.people import logged_in
from tests.security.waiting import until
from tests.services import need_redis

pytestmark = pytest.mark.usefixtures("committed")

PACKAGE = Path(__file__).parent.parent.parent / "django_sse"
urlpatterns = [path("events/", include("django_sse.urls")), path("admin/", admin.site.urls)]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


class TestCaches:
    ANSWERS = ["/events/?channel=public.a", "/events/?channel=secret", "/events/"]

    @pytest.mark.parametrize("address", ANSWERS)
    async def test_nothing_may_be_kept(self, address: str) -> None:
        response: Any = await AsyncClient().get(address)
        directives = {part.strip() for part in response["Cache-Control"].split(",")}
        assert {"no-store", "private"} <= directives
        assert {part.strip() for part in response["Vary"].split(",")} == {"Origin", "Cookie"}
        if response.streaming:
            assert "no-transform" in directives
            assert response["Content-Encoding"] == "identity"
            await aiter(response.streaming_content).aclose()

    @pytest.mark.parametrize("asynchronous", [True, False])
    async def test_djangos_cache_middleware_keeps_nothing(self, settings: Any, asynchronous: bool) -> None:
        settings.MIDDLEWARE = [
            "django.middleware.cache.UpdateCacheMiddleware",
            *settings.MIDDLEWARE,
            "django.middleware.cache.FetchFromCacheMiddleware",
        ]
        ann, anns = await logged_in()
        bob, bobs = await logged_in("bob")
        await asend_event(f"user.{ann.pk}", None, "for Ann")
        address = f"/events/?channel=user.{ann.pk}&since=0"
        if asynchronous:
            async with listen(anns, address) as events:
                assert (await events.next()).json() == "for Ann"
            assert (await bobs.get(address)).status_code == 403
        else:
            client = Client()
            await sync_to_async(client.force_login)(ann)
            assert b"for Ann" in (await sync_to_async(client.get)(address)).content
            await sync_to_async(client.force_login)(bob)
            assert (await sync_to_async(client.get)(address)).status_code == 403
        assert (await AsyncClient().get(address)).status_code == 403

    def test_nor_for_the_same_client(self, settings: Any) -> None:
        """Django keeps an answer for each cookie: what came since, or a right that ended, would not be seen."""
        settings.MIDDLEWARE = [
            "django.middleware.cache.UpdateCacheMiddleware",
            *settings.MIDDLEWARE,
            "django.middleware.cache.FetchFromCacheMiddleware",
        ]
        user = User.objects.create_user("ann")
        client = Client()
        client.force_login(user)
        address = f"/events/?channel=user.{user.pk}&since=0"
        for accept in ("text/event-stream", "application/json"):
            send_event(f"user.{user.pk}", None, f"first as {accept}")
            assert b"first as" in client.get(address, headers={"Accept": accept}).content
            send_event(f"user.{user.pk}", None, f"second as {accept}")
            assert f"second as {accept}".encode() in client.get(address, headers={"Accept": accept}).content
        User.objects.update(is_active=False)
        assert client.get(address).status_code == 403

    async def test_nothing_is_compressed(self, settings: Any) -> None:
        """A secret and a text of somebody else's in one compressed stream tell of each other by their length."""
        settings.MIDDLEWARE = ["django.middleware.gzip.GZipMiddleware", *settings.MIDDLEWARE]
        for _ in range(10):
            await asend_event("public.a", None, "x" * 1000)
        headers = {"Accept-Encoding": "gzip, br, deflate"}
        response: Any = await AsyncClient().get("/events/?channel=public.a&since=0", headers=headers)
        assert response["Content-Encoding"] == "identity"
        await response._iterator.aclose()
        polled = await sync_to_async(Client().get)("/events/?channel=public.a&since=0", headers=headers)
        assert polled["Content-Encoding"] == "identity"
        assert b"xxxx" in polled.content


async def hang_up(talk: ApplicationCommunicator) -> None:
    """Leave, and see the application end by itself: ``talk.wait()`` would cancel it and say nothing."""
    await talk.send_input({"type": "http.disconnect"})
    done, _ = await asyncio.wait({talk.future}, timeout=10)
    assert done, "the application has not ended"
    talk.future.result()


class TestHeaders:
    async def test_nothing_of_the_request_is_in_them(self) -> None:
        marked = "marked7"
        for address in (
            f"/events/?channel=public.{marked}",
            f"/events/?channel={marked}",
            f"/events/?channel={marked}%0d%0aX:1",
        ):
            headers = {"Origin": f"https://{marked}.example", "Last-Event-ID": marked, "X-Forwarded-Host": marked}
            for sent in ({}, headers, {"Last-Event-ID": marked}):
                response: Any = await AsyncClient().get(address, headers=sent)
                assert marked not in str(response.headers).lower()
                if response.streaming:
                    await aiter(response.streaming_content).aclose()

    async def test_what_djangos_middleware_sets_stays(self) -> None:
        for address in TestCaches.ANSWERS:
            response: Any = await AsyncClient().get(address)
            found = {name: response.headers.get(name) for name in SET_BY_DJANGO}
            assert found == SET_BY_DJANGO, address
            if response.streaming:
                await aiter(response.streaming_content).aclose()

    async def test_nor_does_the_application_take_any_away(self) -> None:
        """It takes one of ours out of the answer, with which a stream leaves its request."""
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/events/",
            "query_string": b"channel=public.a",
            "headers": [(b"host", b"testserver")],
        }
        talk = ApplicationCommunicator(get_asgi_application(), scope)
        await talk.send_input({"type": "http.request"})
        headers = {name.decode().title(): value.decode() for name, value in (await talk.receive_output(10))["headers"]}
        await hang_up(talk)
        assert {name: headers.get(name) for name in SET_BY_DJANGO} == SET_BY_DJANGO

    async def test_a_header_with_underscores_is_not_the_one_with_hyphens(self) -> None:
        """A proxy strips or sets ``Last-Event-ID``; ``Last_Event_ID`` would pass it."""
        await asend_event("public.a", None, 1)
        for name, first in ((b"last-event-id", b"id: 0\n"), (b"last_event_id", b"id: 1\n")):
            scope = {
                "type": "http",
                "method": "GET",
                "path": "/events/",
                "query_string": b"channel=public.a",
                "headers": [(b"host", b"testserver"), (name, b"0")],
            }
            talk = ApplicationCommunicator(get_asgi_application(), scope)
            await talk.send_input({"type": "http.request"})
            assert (await talk.receive_output(10))["status"] == 200
            assert first in (await talk.receive_output(10))["body"], name
            await hang_up(talk)

    async def test_no_type_is_guessed(self, settings: Any) -> None:
        settings.MIDDLEWARE = []  # Django's own would say it too
        for address in TestCaches.ANSWERS:
            response: Any = await AsyncClient().get(address)
            assert response["X-Content-Type-Options"] == "nosniff"
            if response.streaming:
                await aiter(response.streaming_content).aclose()


SET_BY_DJANGO = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class TestLogs:
    """Whatever happens, what is logged under ``django_sse`` names no content and no secret."""

    async def test_a_whole_life(self, settings: Any, caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.1, "AUTHORIZE": self.authorize, "RING_SIZE": 2}
        caplog.set_level(logging.DEBUG)
        user, client = await logged_in("ann.secret@example.org")
        session = client.cookies["sessionid"].value
        request: Any = AsyncRequestFactory().get("/")
        request.user = user
        ticket = await asign_ticket(request, ["private.ann-example"])
        address = "/events/?channel=private.ann-example"
        for _ in range(5):
            await asend_event("private.ann-example", "message", "payload-of-ann")
        await Event.objects.acreate(channel="private.ann-example", type="a\nb", data="payload-of-ann")
        async with listen(client, address, last_event_id="0") as events:
            for _ in range(5):
                await events.next()
            await aclose_streams(user=user, reason="reason-of-ann")
            while (await events.next()).type != "sse.close":
                pass
        await AsyncClient().get(f"{address}&ticket={ticket}")
        await AsyncClient().get(f"{address}&ticket={ticket}x")
        await AsyncClient().get("/events/?channel=raise.ann-example")
        await AsyncClient().get("/events/?channel=away.ann-example")
        monkeypatch.setattr("django_sse.examiner.Examiner.examine", self.away)
        async with listen(client, address):
            await until(lambda: "could not be asked" in caplog.text)
        await client.alogout()
        ours = [record for record in caplog.records if record.name.startswith("django_sse")]
        assert {"WARNING", "ERROR"} <= {record.levelname for record in ours}
        text = "\n".join(logging.Formatter().format(record) for record in ours)
        for secret in ("payload-of-ann", "ann-example", "secret@", session, ticket, ticket[:20], "reason-of-ann"):
            assert secret not in text, secret

    @staticmethod
    def authorize(request: Any, channel: str) -> bool:
        if channel.startswith("raise."):
            raise KeyError(channel)
        if channel.startswith("away."):
            raise OperationalError("away")
        return True

    @staticmethod
    async def away(*args: Any) -> Any:
        raise OperationalError("away")

    def test_no_log_call_is_given_more_than_errors_and_numbers(self) -> None:
        """Every argument of every call, so that a new one is looked at by whoever adds it."""
        harmless = {"error", "lost", "position", "self.cursor", "len(batch)", "patience", "PATIENCE"}
        seen = 0
        for file in PACKAGE.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("logger."):
                    seen += 1
                    assert isinstance(node.args[0], ast.Constant), f"{file}: {ast.unparse(node)}"
                    for argument in node.args[1:]:
                        assert ast.unparse(argument) in harmless, f"{file}: {ast.unparse(node)}"
        assert seen > 10


class TestAdmin:
    def client(self, *permissions: str, staff: bool = True) -> Client:
        user = User.objects.create_user("worker", is_staff=staff)
        user.user_permissions.add(*Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(user)
        return client

    @pytest.mark.parametrize(
        ("staff", "permissions", "seen"),
        [
            (False, ["view_event"], False),
            (True, [], False),
            (True, ["add_event", "change_event", "delete_event", "view_head"], False),
            (True, ["view_event"], True),
        ],
    )
    def test_content_is_for_who_may_view_events(self, staff: bool, permissions: list[str], seen: bool) -> None:
        event = send_event("user.7", None, "for-seven-only")
        assert event
        client = self.client(*permissions, staff=staff)
        for address in (
            reverse("admin:django_sse_event_changelist"),
            reverse("admin:django_sse_event_change", args=[event.pk]),
            reverse("admin:index"),
        ):
            response = client.get(address)
            assert ("for-seven-only" in response.content.decode()) is (seen and "event" in address)

    def test_nothing_can_be_written_there(self) -> None:
        event = send_event("user.7", None, 1)
        assert event
        client = self.client("add_event", "change_event", "delete_event", "view_event")
        assert client.post(reverse("admin:django_sse_event_add"), {"channel": "a"}).status_code == 403
        assert client.post(reverse("admin:django_sse_event_change", args=[event.pk]), {"data": "2"}).status_code == 403
        assert (
            client.post(reverse("admin:django_sse_event_delete", args=[event.pk]), {"post": "yes"}).status_code == 403
        )
        action = {"action": "delete_selected", "_selected_action": [event.pk], "post": "yes"}
        client.post(reverse("admin:django_sse_event_changelist"), action)
        assert Event.objects.get().data == "1"

    def test_a_notice_says_that_it_is_one(self) -> None:
        close_streams(user=7)
        client = self.client("view_event")
        assert "!control" in client.get(reverse("admin:django_sse_event_changelist")).content.decode()
        page = client.get(reverse("admin:django_sse_event_change", args=[Event.objects.get().pk])).content.decode()
        assert "No client is sent it" in page
        assert "errorlist" not in page

    @pytest.mark.parametrize(
        "vector",
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "'-alert(1)-'",
            "</textarea><svg/onload=alert(1)>",
            "javascript:alert(1)",
            "{{ 7|add:7 }}{% debug %}",
            "\u202e<b>",
            "]]><script>alert(1)</script>",
            "\u2028alert(1)",
        ],
    )
    def test_what_is_stored_is_shown_as_text(self, vector: str) -> None:
        Event.objects.create(channel="user.7", type=vector[:100], data=vector, position=1)
        client = self.client("view_event")
        event = Event.objects.get()
        for address in (
            reverse("admin:django_sse_event_changelist"),
            reverse("admin:django_sse_event_changelist")
            + "?"
            + "type="
            + vector.replace("&", "%26").replace("#", "%23"),
            reverse("admin:django_sse_event_change", args=[event.pk]),
            reverse("admin:django_sse_event_change", args=[event.pk]) + "?at=0&channels=user.7",
        ):
            page = client.get(address).content.decode()
            for live in ("<script>alert", "<img src=x", "<svg/onload", "<b>", 'href="javascript:alert', "1414"):
                assert live not in page, (live, address)


class TestBroker:
    """Whoever can write to the server of the broker can ring, and no more."""

    async def test_a_forged_ring_shows_nothing(self) -> None:
        async with listen(AsyncClient(), "/events/?channel=public.a") as events:
            for position in (0, -1, 10**18, 1):
                get_broker().notify(position)
            await asend_event("public.a", None, "real")
            event = await events.next()
            assert (event.json(), event.last_event_id) == ("real", "1")

    def test_nothing_is_unpickled(self) -> None:
        for file in PACKAGE.rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
                module = node.module if isinstance(node, ast.ImportFrom) else ""
                assert not {"pickle", "marshal", "shelve", "dill"} & {*names, module}, file

    async def test_an_ephemeral_event_of_the_control_channel_closes_nothing(self) -> None:
        user, client = await logged_in()
        async with listen(client, f"/events/?channel=user.{user.pk}") as events:
            notice = json.dumps({"reason": "forged", "users": [str(user.pk)]})
            get_broker().send("!control", "sse.close", notice)
            await asend_event(f"user.{user.pk}", None, "still")
            assert (await events.next()).json() == "still"

    @pytest.mark.parametrize(
        "content",
        [
            ["public.a", "x\ndata: forged", "1"],
            ["public.a", "message", "\ud800"],
            ["!control", "sse.close", "{}"],
            {"public.a": 1},
            ["public.a", "message", 7],
        ],
    )
    def test_what_could_not_have_been_sent_is_not_heard(self, content: Any, caplog: pytest.LogCaptureFixture) -> None:
        class Nobody:
            def doorbell(self) -> None:
                pytest.fail("rang")

            def ephemeral(self, *args: str) -> None:  # with its arguments: a TypeError would be taken for a refusal
                pytest.fail(f"heard {args}")

        broker = RedisBroker({"ALIAS": "redis"})
        message = json.dumps(["somebody", *content] if isinstance(content, list) else content)
        broker._hear(message, Nobody())
        assert "did not write" in caplog.text
        assert "forged" not in caplog.text

    async def test_a_site_hears_nothing_of_another_on_the_same_server(self, settings: Any) -> None:
        need_redis()
        settings.CACHES = {**settings.CACHES, "neighbour": {**settings.CACHES["redis"], "KEY_PREFIX": "neighbour"}}
        ours, twin, neighbour = (RedisBroker({"ALIAS": alias}) for alias in ("redis", "redis", "neighbour"))
        connected: list[bool] = []
        heard: list[tuple[str, ...]] = []

        class Listener:
            def connected(self) -> None:
                connected.append(True)

            def doorbell(self) -> None:
                """Of no interest here."""

            def announcement(self, announcement: dict[str, Any]) -> None:
                """Of no interest here."""

            def ephemeral(self, *event: str) -> None:
                heard.append(event)

        listening = asyncio.create_task(ours.listen(Listener()))
        await until(lambda: len(connected) >= 2)  # as a listener of this process, and by way of Redis
        for broker, text in ((neighbour, "theirs"), (twin, "ours")):
            await sync_to_async(broker._publish)(broker._encode("public.a", "message", text))
        await until(lambda: heard)
        listening.cancel()
        assert heard == [("public.a", "message", "ours")]


class TestPurge:
    async def test_a_user_who_has_left_leaves_nothing(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1}
        user, client = await logged_in()
        address = f"/events/?channel=user.{user.pk}"
        await asend_event(f"user.{user.pk}", None, "of-ann")
        await asend_event("public.a", None, 1)
        async with listen(client, address, last_event_id="0") as events:
            assert (await events.next()).json() == "of-ann"
            await asend_event(f"user.{user.pk}", None, "of-ann, in the ring")
            assert (await events.next()).json() == "of-ann, in the ring"
            assert Hub.current().ring._frames
            await sync_to_async(call_command)("sse_purge", user=str(user.pk), stdout=StringIO())
            hub = Hub.current()
            await until(lambda: not hub.ring._frames)
        assert not await Event.objects.filter(data__contains="of-ann").aexists()
        polled = await sync_to_async(Client().get)("/events/?channel=public.a&since=0")
        assert [event.data for event in Parser().feed(polled.content)] == ["1"]
        async with listen(client, address, last_event_id="0") as events:
            await asend_event(f"user.{user.pk}", None, "new")
            assert (await events.next()).json() == "new"

    @pytest.mark.parametrize("pk", [7, "a.b", "A"])
    def test_nor_do_the_texts_that_were_generated_for_them(self, pk: Any) -> None:
        """And nobody else's go, however alike the keys are."""
        user, others = User(pk=pk), [User(pk=other) for other in (70, "7.7", "a", "a.b.c", "B")]
        for one in (user, *others):
            send_event(token_channel(one, "text"), "token", {"at": 0, "text": f"of {one.pk}"})
        send_event(token_channel(user, "another"), "token", {"at": 0, "text": "of theirs"})
        output = StringIO()
        call_command("sse_purge", user=str(pk), stdout=output)
        names = f"user.{pk}, tokens.{pk}.another, tokens.{pk}.text"
        assert output.getvalue() == f"Purged 2 events of {names}\n"
        left = set(Event.objects.values_list("channel", flat=True))
        assert left == {token_channel(other, "text") for other in others}


class TestReservedNames:
    @pytest.mark.parametrize("name", ["error", "open", "sse.reset", "sse.close", "sse.", "sse.anything"])
    def test_the_projects_events_cannot_have_ours(self, name: str) -> None:
        for store in (True, False):
            with pytest.raises(ValueError, match="reserved"):
                send_event("public.a", name, 1, store=store)

    def test_a_notice_comes_from_close_streams_alone(self) -> None:
        with pytest.raises(ValueError, match="not a channel name"):
            publish.send_events([{"channel": "!control", "text": "{}"}])
