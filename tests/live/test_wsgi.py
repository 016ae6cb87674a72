"""Under WSGI the same URL answers what is due and ends, and the browser polls."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack

import pytest

from tests.checker import Parser
from tests.live.client import Client, arrival
from tests.live.publisher import publisher

PAGE = 200


@pytest.fixture(params=["wsgi"])
def wsgi(request, database, start):
    with start(request.param, database, env={"PLAIN_RUNSERVER": "yes"}) as running:
        yield running


ON_EVERY_SERVER = pytest.mark.parametrize("wsgi", ["wsgi", "gunicorn-sync", "gthread", "runserver"], indirect=True)


def ask(server, query: str, last: int | None = None):
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    status, headers, body = server.request("GET", f"/events/?{query}", headers=headers)
    parser = Parser()
    return status, headers, [arrival(block) for block in parser.feed(body) if block.id], parser, body


@ON_EVERY_SERVER
def test_the_url_answers_what_is_due_and_ends(wsgi, database, book):
    status, headers, arrivals, parser, body = ask(wsgi, "channel=public.a")
    assert (status, headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert headers["cache-control"] == "no-cache, no-store, private, no-transform"
    assert re.match(rb"retry: [0-9]+\n\n", body)
    assert {one.uuid for one in arrivals} == {None}
    texts = book.post(wsgi, "atomic", ["public.a", "public.b", "public.a"])
    _, _, arrivals, after, _ = ask(wsgi, "channel=public.a", int(parser.id))
    assert [one.uuid for one in arrivals if one.uuid] == [texts[0], texts[2]]
    assert int(after.id) == database.head()
    _, _, arrivals, _, _ = ask(wsgi, "channel=public.a", int(after.id))
    assert [one.uuid for one in arrivals if one.uuid] == []


@ON_EVERY_SERVER
def test_no_client_holds_a_worker(wsgi, database, book):
    """More of them than there are workers and threads, and each is answered at once though nothing is due."""
    before = database.head()  # and not 0: other tests have trimmed this log
    texts = book.post(wsgi, "atomic", ["public.a"])
    with ExitStack() as stack:
        clients = [Client(wsgi, ["public.a"], last) for last in (before, 10**6, before, 10**6, before)]
        for client in clients:
            stack.callback(client.leave)
        for client in clients:
            client.until(lambda client=client: client.ended or client.cut, "the answer ends")
        assert [set(texts) <= set(client.texts) for client in clients] == [True, False, True, False, True]


@ON_EVERY_SERVER
def test_a_producer_streams_there_too(wsgi):
    """It does hold its worker: an answer that is generated has to be sent by somebody."""
    client = Client(wsgi, [], path="/generate/", query="count=2&pause=1")
    client.until(lambda: b"data: 0 " in client.body, "the first item")
    assert b"data: 1 " not in client.body
    client.until(lambda: b"event: done" in client.body, "the end")
    client.leave()


def test_json(wsgi, database, book):
    cursor, seen = database.head(), []
    texts = book.post(wsgi, "atomic", ["public.a"] * 250)
    while True:
        path = f"/events/?channel=public.a&since={cursor}"
        status, headers, body = wsgi.request("GET", path, headers={"Accept": "application/json"})
        answer = json.loads(body)
        assert (status, headers["content-type"], answer["reset"]) == (200, "application/json", None)
        seen += [event["data"] for event in answer["events"]]
        cursor = answer["cursor"]
        if not answer["more"]:
            break
    assert seen == texts
    assert cursor == database.head()


def test_polling_goes_through_a_long_log_in_pages(wsgi, database, book):
    cursor = database.head()
    texts = []
    for _ in range(3):
        texts += book.post(wsgi, "batch", ["public.a"] * 400)
    seen, polls = [], 0
    while cursor < database.head():
        _, _, arrivals, parser, _ = ask(wsgi, "channel=public.a", cursor)
        page = [one.uuid for one in arrivals if one.uuid]
        assert len(page) <= PAGE
        assert int(parser.id) > cursor
        seen, cursor, polls = seen + page, int(parser.id), polls + 1
    assert seen == texts
    assert polls == 1200 / PAGE


def test_an_event_that_nobody_numbered_is_found(wsgi, database, book):
    cursor = database.head()
    with publisher(database) as other:
        other.do("begin")
        left = book.note("public.a")
        other.do("send", "public.a", left.uuid)
        other.die()
    _, _, arrivals, _, _ = ask(wsgi, "channel=public.a", cursor)
    assert [one.uuid for one in arrivals if one.uuid] == [left.uuid]


@pytest.mark.parametrize(("method", "expected"), [("HEAD", 200), ("OPTIONS", 200), ("POST", 405), ("PUT", 405)])
def test_other_methods(wsgi, method, expected):
    assert wsgi.request(method, "/events/?channel=public.a")[0] == expected


def test_refusals(wsgi):
    assert wsgi.request("GET", "/events/?channel=secret")[0] == 403
    assert wsgi.request("GET", "/events/")[0] == 400
