"""Answers that end: what a client is owed now, as an event stream and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path

from django_sse import asend_event, retention, send_event, send_events
from django_sse.log import append
from django_sse.models import Event
from django_sse.parser import Parser
from django_sse.polling import due, wants_json
from django_sse.reader import PAGE
from django_sse.views import EventStreamView

if TYPE_CHECKING:
    from django.http import HttpRequest

pytestmark = pytest.mark.usefixtures("committed")


class Stock(EventStreamView):
    channels = ["a"]

    def get_initial(self, request: HttpRequest) -> list[object]:
        return [{"apples": 3}]


urlpatterns = [path("events/", EventStreamView.as_view(channels=["a"])), path("stock/", Stock.as_view())]


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


def ask(query: str = "", path: str = "/events/", **headers: str) -> Any:
    response = Client().get(f"{path}?{query}", headers={"Accept": "application/json", **headers})
    assert response.status_code == 200
    return response.json()


class TestOneQuery:
    @pytest.mark.parametrize("cursor", [None, 0, 1, 2, 99, "malformed"])
    def test_whatever_the_cursor(self, cursor: Any, django_assert_num_queries: Any) -> None:
        send_events([("a", None, 1), ("b", None, 2)])
        with django_assert_num_queries(1):
            due(["a", "c"], cursor)

    def test_an_empty_log(self, django_assert_max_num_queries: Any) -> None:
        with django_assert_max_num_queries(2):
            owed = due(["a"], None)
        assert (owed.start.position, owed.events, owed.cursor, owed.more) == (0, [], 0, False)

    def test_rows_behind_the_floor_take_nobodys_place(self) -> None:
        """They are there until the next trim, and would fill the page."""
        send_events([("a", None, number) for number in range(PAGE + 10)])
        retention.rebase(1000)
        send_event("a", None, "new")
        owed = due(["a"], None, last=PAGE + 5)
        assert [event.position for event in owed.events] == [1001]
        assert (owed.start.position, owed.cursor, owed.more) == (1000, 1001, False)

    def test_rows_without_a_position_get_one_first(self) -> None:
        send_event("a", None, 1)
        append([Event(channel="a", data="2")])
        assert [(event.position, event.data) for event in due(["a"], 0).events] == [(1, "1"), (2, "2")]

    def test_the_first_rows_of_a_log(self) -> None:
        append([Event(channel="a", data="1")])
        assert [event.data for event in due(["a"], 0).events] == ["1"]

    def test_the_newest_and_what_follows_a_cursor(self) -> None:
        send_events([("a" if n % 2 else "b", None, n) for n in range(10)])
        assert [event.data for event in due(["a"], None, last=2).events] == ["7", "9"]
        assert [event.data for event in due(["a"], 6, last=3).events] == ["5", "7", "9"]
        assert [event.data for event in due(["a"], 3, last=2).events] == ["3", "5", "7", "9"]

    def test_characters_that_a_database_refuses(self) -> None:
        send_event("a", text="\0\x10")
        assert due(["a"], 0).events[0].data == "\0\x10"


class TestJSON:
    def test_the_shape(self) -> None:
        send_event("a", "status", {"id": 7})
        send_event("b", None, 0)
        send_event("a", text="two\r\nlines")
        answer = ask("since=0")
        assert 1500 <= answer.pop("retry") <= 4500
        assert answer == {
            "events": [
                {"id": 1, "type": "status", "data": '{"id":7}'},
                {"id": 3, "type": "message", "data": "two\nlines"},
            ],
            "cursor": 3,
            "more": False,
            "reset": None,
        }

    def test_it_is_what_a_browser_sees(self) -> None:
        send_events([("a", "t", {"n": n}) for n in range(5)])
        stream = Client().get("/events/?since=2")
        events = Parser().feed(stream.content)
        assert [(event.type, event.data, int(event.last_event_id)) for event in events] == [
            (event["type"], event["data"], event["id"]) for event in ask("since=2")["events"]
        ]

    def test_from_page_to_page_and_never_twice(self) -> None:
        send_events([("a" if n % 3 else "b", None, n) for n in range(3 * PAGE)])
        seen, cursor, asked = [], 0, 0
        while True:
            answer = ask(f"since={cursor}")
            seen += [int(event["data"]) for event in answer["events"]]
            cursor, asked = answer["cursor"], asked + 1
            if not answer["more"]:
                break
            assert answer["retry"] == 0
        assert seen == [n for n in range(3 * PAGE) if n % 3]
        assert (asked, cursor) == (2, 3 * PAGE)

    def test_a_full_page_that_is_the_last_has_no_more(self) -> None:
        send_events([("a", None, n) for n in range(PAGE)])
        assert not ask("since=0")["more"]

    def test_without_a_cursor_it_begins_now(self) -> None:
        send_event("a", None, 1)
        answer = ask()
        assert (answer["events"], answer["cursor"]) == ([], 1)
        assert [event["data"] for event in ask("last=1")["events"]] == ["1"]

    def test_the_header_wins_as_on_a_stream(self) -> None:
        send_events([("a", None, n) for n in range(3)])
        assert len(ask("since=0", **{"Last-Event-ID": "2"})["events"]) == 1

    @pytest.mark.parametrize(("since", "reason"), [("99", "ahead"), ("x", "malformed"), ("0", "expired")])
    def test_a_reset_is_said(self, since: str, reason: str) -> None:
        send_events([("a", None, n) for n in range(3)])
        retention.trim(keep=1)
        answer = ask(f"since={since}")
        assert (answer["reset"], answer["events"], answer["cursor"]) == (reason, [], 3)

    def test_the_state_comes_with_the_first(self) -> None:
        send_event("a", None, 1)
        first = ask(path="/stock/")
        assert first["events"] == [{"id": None, "type": "message", "data": '{"apples":3}'}]
        assert ask(f"since={first['cursor']}", path="/stock/")["events"] == []

    async def test_under_asgi_it_ends_too(self) -> None:
        await asend_event("a", None, 1)
        response = await AsyncClient().get("/events/?since=0", headers={"Accept": "application/json"})
        assert not response.streaming
        assert [event["data"] for event in response.json()["events"]] == ["1"]

    def test_nobody_may_keep_it(self) -> None:
        response = Client().get("/events/", headers={"Accept": "application/json"})
        assert response["Cache-Control"] == "no-store, private"
        assert response["Vary"] == "Accept, Cookie, Origin"

    def test_without_a_database_the_client_is_asked_to_come_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*args: Any, **kwargs: Any) -> Any:
            raise OperationalError("gone")

        monkeypatch.setattr("django_sse.views.due", broken)
        response = Client().get("/events/", headers={"Accept": "application/json"})
        assert (response.status_code, response["Retry-After"]) == (503, "5")

    @pytest.mark.parametrize(
        ("accept", "json"),
        [
            ("application/json", True),
            ("application/json, text/plain", True),
            ("text/event-stream", False),
            ("text/event-stream, application/json;q=0.5", False),
            ("*/*", False),
            ("text/html", False),
        ],
    )
    def test_who_gets_json(self, accept: str, json: bool) -> None:
        assert wants_json(RequestFactory().get("/", headers={"Accept": accept})) is json

    def test_who_says_nothing_gets_a_stream(self) -> None:
        assert not wants_json(RequestFactory().get("/"))
