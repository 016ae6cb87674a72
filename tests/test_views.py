"""What is decided before the first byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import OperationalError, connection, connections
from django.test import AsyncClient, AsyncRequestFactory, Client
from django.urls import path

from django_sse import admission, asend_event, polling, send_event, send_events, views
from django_sse.testing import Parser, listen
from django_sse.views import EventStreamView, event_stream

if TYPE_CHECKING:
    from django.http import HttpRequest

pytestmark = pytest.mark.usefixtures("committed")

EXPECTED_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-store, private, no-transform",
    "X-Accel-Buffering": "no",
    "Content-Encoding": "identity",
    "X-Content-Type-Options": "nosniff",
}


class Account(EventStreamView):
    def get_channels(self, request: HttpRequest) -> list[str]:
        return [f"account.{self.kwargs['pk']}"] if self.kwargs["pk"] != 13 else []

    def get_initial(self, request: HttpRequest) -> list[object]:
        return [{"balance": User.objects.count()}, "text"]


class AsyncAccount(EventStreamView):
    async def get_channels(self, request: HttpRequest) -> list[str] | None:
        return None if "ask" in request.GET else ["orders"]

    async def get_initial(self, request: HttpRequest) -> list[object]:
        return ["initial"]


class Broken(EventStreamView):
    def get_channels(self, request: HttpRequest) -> list[str]:
        if self.kwargs["where"] == "channels":
            raise ValueError("invalid literal: the salary of Bob")
        return ["orders"]

    def get_initial(self, request: HttpRequest) -> list[object]:
        raise ValueError("invalid literal: the salary of Bob")


async def function_view(request: HttpRequest) -> Any:
    return await event_stream(request, ["orders"], last=1)


urlpatterns = [
    path("asked/", EventStreamView.as_view()),
    path("fixed/", EventStreamView.as_view(channels=["orders", "stock"])),
    path("last/", EventStreamView.as_view(channels=["orders"], last=2)),
    path("account/<int:pk>/", Account.as_view()),
    path("async/", AsyncAccount.as_view()),
    path("function/", function_view),
    path("broken/<str:where>/", Broken.as_view()),
]


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


async def received(path: str, count: int, last_event_id: str | None = None) -> list[tuple[str, Any, str]]:
    """The first ``count`` events of a new stream: type, data and id."""
    async with listen(AsyncClient(), path, last_event_id=last_event_id) as events:
        found = [await events.next() for _ in range(count)]
    return [(event.type, event.data, event.last_event_id) for event in found]


class TestAnswers:
    async def test_headers(self) -> None:
        response = await AsyncClient().get("/fixed/")
        assert {name: response[name] for name in EXPECTED_HEADERS} == EXPECTED_HEADERS
        assert "Connection" not in response
        assert response.status_code == 200
        assert response.streaming

    async def test_other_methods_are_refused(self) -> None:
        for method in ("post", "put", "patch", "delete", "trace"):
            response = await getattr(AsyncClient(), method)("/fixed/")
            assert response.status_code == 405
            assert response["Allow"] == "GET, HEAD, OPTIONS"

    async def test_options_says_what_there_is(self) -> None:
        response = await AsyncClient().options("/fixed/")
        assert (response.status_code, response["Allow"]) == (200, "GET, HEAD, OPTIONS")

    async def test_head_opens_no_stream(self) -> None:
        response = await AsyncClient().head("/fixed/")
        assert response["Content-Type"] == EXPECTED_HEADERS["Content-Type"]
        assert not response.streaming
        assert (await AsyncClient().head("/asked/?channel=secret")).status_code == 403

    async def test_the_first_bytes_hold_a_retry_and_an_id(self) -> None:
        await asend_event("orders", None, 1)
        async with listen(AsyncClient(), "/fixed/") as events:
            assert events.parser.last_event_id == "1"
            assert events.parser.retry is not None
            assert 1500 <= events.parser.retry <= 4500

    async def test_each_connection_waits_its_own_time_to_come_back(self) -> None:
        retries = set()
        for _ in range(8):
            async with listen(AsyncClient(), "/fixed/") as events:
                retries.add(events.parser.retry)
        assert len(retries) > 1

    async def test_a_database_that_is_down_ends_the_stream_and_the_browser_comes_back(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def refuse(*args: Any, **kwargs: Any) -> None:
            raise OperationalError("the database is down")

        monkeypatch.setattr(views.Stream, "open", refuse)
        response = await AsyncClient().get("/fixed/")
        assert response.status_code == 200
        assert response["Content-Type"] == EXPECTED_HEADERS["Content-Type"]
        parser = Parser()
        assert parser.feed(response.content) == []
        assert parser.retry
        assert "could not be opened" in caplog.text

    async def test_a_project_with_atomic_requests(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(connection.settings_dict, "ATOMIC_REQUESTS", True)
        assert connections.settings["default"]["ATOMIC_REQUESTS"]
        async with listen(AsyncClient(), "/fixed/") as events:
            await asend_event("orders", None, 1)
            assert (await events.next()).json() == 1


class TestAskedChannels:
    @pytest.mark.parametrize(
        ("query", "status"),
        [
            ("", 400),
            ("?channel=", 400),
            ("?channel=a%20b", 400),
            ("?channel=%C3%A9", 400),
            ("?channel=public.a%0a", 400),
            ("?channel=" + "x" * 101, 400),
            ("?" + "&".join(f"channel=public.{n}" for n in range(21)), 400),
            ("?channel=orders", 403),
            ("?channel=public.a&channel=orders", 403),
            ("?channel=Public.a", 403),
            ("?channel=public.a&last=x", 400),
            ("?channel=public.a&last=-1", 400),
            ("?channel=public.a&last=1001", 400),
        ],
    )
    async def test_refusals(self, query: str, status: int) -> None:
        response = await AsyncClient().get("/asked/" + query)
        assert response.status_code == status
        assert response["Content-Type"] == "text/plain; charset=utf-8"
        assert not response.has_header("Location")

    async def test_twenty_channels_are_one_stream(self) -> None:
        query = "&".join(f"channel=public.{number}" for number in range(20))
        async with listen(AsyncClient(), f"/asked/?{query}") as events:
            await asend_event("public.0", None, "first")
            await asend_event("public.19", None, "last")
            assert [(await events.next()).json() for _ in range(2)] == ["first", "last"]

    async def test_a_refusal_does_not_tell_what_exists(self) -> None:
        await asend_event("orders", None, 1)
        denied = await AsyncClient().get("/asked/?channel=orders")
        unknown = await AsyncClient().get("/asked/?channel=nothing")
        assert denied.content == unknown.content
        assert denied.headers == unknown.headers

    async def test_only_what_was_asked_for_arrives(self) -> None:
        async with listen(AsyncClient(), "/asked/?channel=public.a") as events:
            await asend_event("public.b", None, "not asked")
            await asend_event("public.b", None, "not asked", store=False)
            await asend_event("public.a", None, "asked")
            event = await events.next()
            assert (event.json(), event.last_event_id) == ("asked", "2")

    async def test_last_may_be_asked_for(self) -> None:
        await sync_to_async(send_events)([("public.a", None, number) for number in range(5)])
        assert await received("/asked/?channel=public.a&last=2", 2) == [
            ("message", "3", "4"),
            ("message", "4", "5"),
        ]

    async def test_one_that_is_named_twice_is_asked_for_once(self, settings: Any) -> None:
        asked: list[str] = []
        settings.DJANGO_SSE = {"AUTHORIZE": lambda request, channel: asked.append(channel) or True}
        query = "&".join(["channel=b", "channel=a"] * 10)
        response = await AsyncClient().get(f"/asked/?{query}", headers={"Accept": "application/json"})
        assert (response.status_code, asked) == (200, ["b", "a"])


class TestDevelopersChannels:
    async def test_fixed_ones_need_no_other_permission(self) -> None:
        async with listen(AsyncClient(), "/fixed/?channel=secret") as events:
            await asend_event("secret", None, "not mine")
            await asend_event("stock", "level", 7)
            event = await events.next()
            assert (event.type, event.json()) == ("level", 7)

    async def test_get_channels_sees_the_url_and_may_refuse(self) -> None:
        async with listen(AsyncClient(), "/account/7/") as events:
            assert [(await events.next()).data for _ in range(2)] == ['{"balance":0}', "text"]
            await asend_event("account.7", None, "paid")
            assert (await events.next()).json() == "paid"
        assert (await AsyncClient().get("/account/13/")).status_code == 403

    async def test_get_channels_may_be_async_and_may_leave_it_to_the_client(self) -> None:
        assert await received("/async/", 1) == [("message", "initial", "")]
        assert (await AsyncClient().get("/async/?ask")).status_code == 400
        assert (await AsyncClient().get("/async/?ask&channel=orders")).status_code == 403

    async def test_a_function_view(self) -> None:
        await asend_event("orders", None, 1)
        assert await received("/function/", 1) == [("message", "1", "1")]

    async def test_a_name_that_cannot_be_one_is_the_developers_error(self) -> None:
        request = AsyncRequestFactory().get("/")
        with pytest.raises(ValueError, match="not a channel name"):
            await event_stream(request, ["no spaces"])

    @pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "trace", "options"])
    async def test_a_function_view_opens_no_stream_for_other_methods(self, method: str) -> None:
        """Django asks a function view whatever the method is."""
        response = await getattr(AsyncClient(), method)("/function/")
        assert (response.status_code, response["Allow"], response.streaming) == (405, "GET, HEAD", False)
        head = await AsyncClient().head("/function/")
        assert (head.status_code, head.streaming) == (200, False)

    async def test_a_function_view_answers_a_preflight(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"ALLOWED_ORIGINS": ["https://app.example"]}
        headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "GET"}
        response = await AsyncClient().options("/function/", headers=headers)
        assert (response.status_code, response["Access-Control-Allow-Methods"]) == (204, "GET")
        other = await AsyncClient().options("/function/", headers={**headers, "Origin": "https://evil.example"})
        assert other.status_code == 403

    @pytest.mark.parametrize("path", ["/broken/channels/", "/broken/initial/"])
    async def test_a_value_error_of_the_projects_is_its_own(self, path: str) -> None:
        """Its words are nobody's business, and the client could not help it."""
        with pytest.raises(ValueError, match="of Bob"):
            await AsyncClient().get(path)
        response = await AsyncClient(raise_request_exception=False).get(path)
        assert response.status_code == 500
        assert b"of Bob" not in response.content


class TestCursor:
    async def test_without_one_it_is_live_only(self) -> None:
        await asend_event("orders", None, "old")
        async with listen(AsyncClient(), "/fixed/") as events:
            await asend_event("orders", None, "new")
            assert (await events.next()).json() == "new"

    async def test_since_is_where_the_page_was_rendered(self) -> None:
        await sync_to_async(send_events)([("orders", None, number) for number in range(4)])
        assert await received("/fixed/?since=2", 2) == [("message", "2", "3"), ("message", "3", "4")]

    async def test_the_header_wins_over_since_and_last(self) -> None:
        await sync_to_async(send_events)([("orders", None, number) for number in range(4)])
        assert await received("/last/?since=0", 1, last_event_id="3") == [("message", "3", "4")]

    async def test_last_and_since_give_whichever_is_more(self) -> None:
        await sync_to_async(send_events)([("orders", None, number) for number in range(4)])
        assert [data for _, data, _ in await received("/last/?since=4", 2)] == ["2", "3"]
        assert [data for _, data, _ in await received("/last/?since=1", 3)] == ["1", "2", "3"]
        assert [data for _, data, _ in await received("/last/", 2)] == ["2", "3"]

    @pytest.mark.parametrize("presented", ["-1", "x", "1,2", "²", "9" * 6000])
    async def test_malformed_is_said(self, presented: str) -> None:
        await asend_event("orders", None, 1)
        assert await received("/fixed/", 1, last_event_id=presented) == [
            ("sse.reset", '{"reason":"malformed","id":1}', "1")
        ]

    @pytest.mark.parametrize("presented", ["2", str(2**63 - 1), str(2**63), "9" * 19])
    async def test_ahead_is_said(self, presented: str) -> None:
        await asend_event("orders", None, 1)
        assert await received("/fixed/", 1, last_event_id=presented) == [
            ("sse.reset", '{"reason":"ahead","id":1}', "1")
        ]

    async def test_a_snapshot_comes_where_the_cursor_tells_nothing(self) -> None:
        await asend_event("orders", None, 1)
        assert (await received("/async/", 1))[0][1] == "initial"
        assert [row[1] for row in await received("/async/", 2, last_event_id="99")] == [
            '{"reason":"ahead","id":1}',
            "initial",
        ]
        assert (await received("/async/?since=0", 1))[0][1] == "1"
        assert (await received("/async/", 1, last_event_id="0"))[0][1] == "1"

    async def test_what_is_published_while_the_snapshot_is_made_follows_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def initial(self: Any, request: HttpRequest) -> list[object]:
            await asend_event("orders", None, "meanwhile")
            return ["initial"]

        monkeypatch.setattr(AsyncAccount, "get_initial", initial)
        assert [row[1] for row in await received("/async/", 2)] == ["initial", '"meanwhile"']


class TestWithoutASGI:
    def test_what_is_due_then_the_end(self) -> None:
        send_events([("orders", None, number) for number in range(3)])
        parser = Parser()
        response = Client().get("/fixed/", headers={"Last-Event-ID": "1"})
        assert {name: response[name] for name in EXPECTED_HEADERS} == EXPECTED_HEADERS
        assert [event.data for event in parser.feed(response.content)] == ["1", "2"]
        assert parser.last_event_id == "3"
        assert parser.retry

    def test_the_first_poll_gives_an_id_to_come_back_with(self) -> None:
        send_event("orders", None, "old")
        parser = Parser()
        assert parser.feed(Client().get("/fixed/").content) == []
        assert parser.last_event_id == "1"

    def test_other_channels_move_the_id(self) -> None:
        send_event("elsewhere", None, 1)
        parser = Parser()
        assert parser.feed(Client().get("/fixed/?since=0").content) == []
        assert parser.last_event_id == "1"

    def test_a_page_at_a_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(polling, "PAGE", 2)
        send_events([("orders", None, number) for number in range(5)])
        pages: list[list[str]] = []
        cursor = "0"
        for _ in range(3):
            parser = Parser()
            events = parser.feed(Client().get("/fixed/", headers={"Last-Event-ID": cursor}).content)
            pages.append([event.data for event in events])
            cursor = parser.last_event_id
        assert pages == [["0", "1"], ["2", "3"], ["4"]]
        assert cursor == "5"

    def test_committed_rows_that_nobody_numbered_are_numbered(self) -> None:
        from django_sse.models import Event

        Event.objects.create(channel="orders", data='"waiting"')
        assert b'data: "waiting"' in Client().get("/fixed/?since=0").content

    def test_resets_and_snapshots_and_last(self) -> None:
        send_events([("orders", None, number) for number in range(3)])
        reset = Client().get("/async/", headers={"Last-Event-ID": "77"}).content
        assert [event.data for event in Parser().feed(reset)] == ['{"reason":"ahead","id":3}', "initial"]
        last = Client().get("/last/").content
        assert [event.data for event in Parser().feed(last)] == ["1", "2"]

    def test_refusals_are_the_same(self) -> None:
        assert Client().get("/asked/?channel=orders").status_code == 403
        assert Client().get("/asked/").status_code == 400
        assert Client().head("/fixed/").content == b""


class TestLoginRequiredMiddleware:
    @pytest.fixture(autouse=True)
    def _middleware(self, settings: Any) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]

    async def test_a_stranger_is_refused_and_not_sent_to_a_login_page(self) -> None:
        for address in ("/fixed/", "/asked/?channel=public.a"):
            response = await AsyncClient().get(address)
            assert (response.status_code, response.content) == (403, admission.FORBIDDEN.encode())

    async def test_a_user_is_let_in(self) -> None:
        client = AsyncClient()
        await client.aforce_login(await User.objects.acreate_user("ann"))
        async with listen(client, "/fixed/"):
            pass


class TestHeartbeats:
    """``?heartbeat=event``, for a client that watches for silence."""

    async def test_the_client_asks_to_hear_them(self) -> None:
        await asend_event("orders", None, 1)
        path = "/fixed/?since=0&heartbeat=event"
        assert await received(path, 2) == [("sse.heartbeat", "15", "0"), ("message", "1", "1")]

    async def test_after_a_reset_they_stand_where_it_says(self) -> None:
        await asend_event("orders", None, 1)
        first, second = await received("/fixed/?since=99&heartbeat=event", 2)
        assert (first[0], first[2], second) == ("sse.reset", "1", ("sse.heartbeat", "15", "1"))

    async def test_anything_else_is_a_silent_mark(self) -> None:
        await asend_event("orders", None, 1)
        assert await received("/fixed/?since=0&heartbeat=15", 1) == [("message", "1", "1")]

    def test_where_the_stream_ends_none_will_follow(self) -> None:
        body = Client().get("/fixed/?heartbeat=event").content
        assert b"event: sse.heartbeat\ndata: 0\n\n" in body
