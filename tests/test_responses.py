from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection
from django.http import HttpRequest
from django.middleware.gzip import GZipMiddleware
from django.test import AsyncClient
from django.urls import path

from django_sse.models import Event
from django_sse.responses import HEADERS, EventStreamResponse, encode_item, event_body
from django_sse.wire import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.mark.parametrize(
    ("item", "frame"),
    [
        ("two\nlines", b"data: two\ndata: lines\n\n"),
        ({"é": 1}, 'data: {"é":1}\n\n'.encode()),
        (None, b"data: null\n\n"),
        (b": raw\n\n", b": raw\n\n"),
        (ServerSentEvent("a"), b"data: a\n\n"),
        (ServerSentEvent("a", event="token", id="7"), b"id: 7\nevent: token\ndata: a\n\n"),
        (Event(position=41, type="status", data="1"), b"id: 41\nevent: status\ndata: 1\n\n"),
    ],
)
def test_items(item: object, frame: bytes) -> None:
    assert encode_item(item) == frame


@pytest.mark.parametrize(
    "item", [object(), float("nan"), "\ud800", ServerSentEvent("a", event="x\n"), ServerSentEvent("a", id="\0")]
)
def test_what_cannot_be_sent_is_an_error(item: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        encode_item(item)


async def tokens() -> AsyncIterator[object]:
    yield "first"
    yield {"second": 2}


async def view(request: HttpRequest) -> EventStreamResponse:
    await Event.objects.acount()
    return EventStreamResponse(tokens(), headers={"X-Mine": "1"}, status=200)


urlpatterns = [path("tokens/", view)]


@pytest.mark.django_db(transaction=True)
async def test_a_source_of_ones_own(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    response: Any = await AsyncClient().get("/tokens/")
    assert response["X-Mine"] == "1"
    assert {name: response[name] for name in HEADERS} == HEADERS
    assert [piece async for piece in response.streaming_content] == [
        b"data: first\n\n",
        b'data: {"second":2}\n\n',
    ]


@pytest.mark.django_db(transaction=True)
def test_the_request_gives_its_connection_back_before_the_first_event(settings: Any) -> None:
    from asgiref.sync import async_to_sync

    async def first() -> None:
        response: Any = await view(HttpRequest())
        pieces = aiter(response.streaming_content)
        await anext(pieces)
        await pieces.aclose()

    connection.ensure_connection()
    async_to_sync(first)()
    assert connection.connection is None


@pytest.mark.django_db
async def test_a_tests_transaction_keeps_its_connection() -> None:
    response: Any = EventStreamResponse(tokens_without_a_look())
    assert [piece async for piece in response.streaming_content] == [b"data: 1\n\n"]
    assert await Event.objects.acount() == 0


async def tokens_without_a_look() -> AsyncIterator[object]:
    yield 1


def test_without_asgi_a_source_is_sync() -> None:
    response = EventStreamResponse(iter(["a", {"b": 1}]))
    assert b"".join(response) == b'data: a\n\ndata: {"b":1}\n\n'


def test_a_complete_body() -> None:
    response = event_body(b"retry: 1\n\n")
    assert response.content == b"retry: 1\n\n"
    assert {name: response[name] for name in HEADERS} == HEADERS


def test_compressing_middleware_leaves_it_alone() -> None:
    request = HttpRequest()
    request.META["HTTP_ACCEPT_ENCODING"] = "gzip"
    middleware = GZipMiddleware(lambda request: event_body(b"data: " + b"x" * 1000 + b"\n\n"))
    response: Any = middleware(request)
    assert response["Content-Encoding"] == "identity"
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress(response.content)
