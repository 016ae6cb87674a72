"""Under WSGI the same URL answers what is due and ends, and the browser polls."""

from __future__ import annotations

import re

import pytest

from tests.checker import Parser
from tests.live.client import arrival
from tests.live.publisher import publisher

PAGE = 200


@pytest.fixture
def wsgi(database, start):
    with start("wsgi", database) as running:
        yield running


def ask(server, query: str, last: int | None = None):
    headers = {} if last is None else {"Last-Event-ID": str(last)}
    status, headers, body = server.request("GET", f"/events/?{query}", headers=headers)
    parser = Parser()
    return status, headers, [arrival(block) for block in parser.feed(body) if block.id], parser, body


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
