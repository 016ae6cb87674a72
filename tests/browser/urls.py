"""The pages of the browser tests, and the handles by which a test moves the server."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode
from threading import Event as Flag
from typing import TYPE_CHECKING, Any

import django
from csp.constants import NONCE
from csp.decorators import csp
from csp.middleware import CSPMiddleware
from django.http import HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import render
from django.template import RequestContext, Template, TemplateSyntaxError
from django.urls import include, path
from django.utils.decorators import decorator_from_middleware

from django_sse import get_head, send_events
from django_sse.responses import EventStreamResponse, event_body
from django_sse.signals import stream_closed, stream_opened
from django_sse.tokens import tokens_since
from tests.browser.middleware import requests
from tests.packages import need_packages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from django.http import HttpRequest

_open: dict[Any, Any] = {}
"""Each open stream, with its event loop."""


async def _opened(*, stream: Any, **kwargs: Any) -> None:
    _open[stream] = asyncio.get_running_loop()


async def _closed(*, stream: Any, **kwargs: Any) -> None:
    _open.pop(stream, None)


stream_opened.connect(_opened)
stream_closed.connect(_closed)


def orders(request: HttpRequest) -> HttpResponse:
    """The page of the documentation."""
    return render(request, "browser/orders.html")


def page(request: HttpRequest) -> HttpResponse:
    """A page with whatever tags ``?tags=`` holds."""
    try:
        tags = Template("{% load django_sse %}" + request.GET["tags"]).render(RequestContext(request))
    except TemplateSyntaxError as error:
        return HttpResponseBadRequest(str(error), content_type="text/plain")
    # Read after the tags: the nonces of Django and django-csp are lazy, and a tag may not rely on others to wake them.
    nonces = [getattr(request, name, None) for name in ("page_nonce", "csp_nonce", "_csp_nonce")]
    nonce = next((str(nonce) for nonce in nonces if nonce is not None), "")
    return render(request, "browser/page.html", {"tags": tags, "nonce": nonce})


def raw(request: HttpRequest, body: str) -> HttpResponse:
    return event_body(urlsafe_b64decode(body))


LIBRARIES = {
    "htmx4.js": "htmx4/dist/htmx.js",
    "hx-sse.js": "htmx4/dist/ext/hx-sse.js",
    "htmx2.js": "htmx2/dist/htmx.js",
    "sse.js": "htmx-ext-sse/sse.js",
    "alpine.js": "alpinejs/dist/cdn.js",
}


def library(request: HttpRequest, name: str) -> HttpResponse:
    text = (need_packages() / LIBRARIES[name]).read_text()
    return HttpResponse(text, content_type="text/javascript; charset=utf-8")


def recipe(request: HttpRequest, body: str) -> HttpResponse:
    """A page of the documentation: the template in ``body``, with the context that the text around it promises."""
    template = Template(urlsafe_b64decode(body).decode())
    channel = request.GET.get("channel", "")
    context = {"since": tokens_since(channel) if channel else get_head(), "channel": channel}
    text = template.render(RequestContext(request, context))
    return HttpResponse(f"<!doctype html><html lang=en><title>recipe</title><body>{text}</body></html>")


calls: dict[str, list[str | None]] = {}
"""What each call of ``answer`` presented, by its question."""


async def answer(request: HttpRequest) -> HttpResponse | EventStreamResponse:
    """The view of docs/tokens.md. ``q=cut…`` breaks the connection after the first word."""
    question = request.GET["q"]
    presented = request.headers.get("Last-Event-ID")
    calls.setdefault(question, []).append(presented)
    if presented is not None:
        return HttpResponse(status=204)

    async def words() -> AsyncIterator[str]:
        yield "one "
        await asyncio.sleep(3600 if question.startswith("cut") else 0.1)
        yield "two"

    return EventStreamResponse(words())


def answered(request: HttpRequest) -> JsonResponse:
    return JsonResponse({"presented": calls.get(request.GET["q"], [])})


def publish(request: HttpRequest) -> JsonResponse:
    """Publish in the process of the server; with ``?end=<channel>``, end that channel's streams first."""
    ended = []
    if channel := request.GET.get("end"):
        for stream, loop in list(_open.items()):
            if channel in stream.channels:
                done = Flag()
                loop.call_soon_threadsafe(lambda stream=stream, done=done: (stream.end(), done.set()))
                ended.append(done.wait(10))
    events = send_events(json.loads(request.body))
    return JsonResponse({"positions": [event and event.position for event in events], "ended": len(ended)})


def recorded(request: HttpRequest) -> JsonResponse:
    """The streams of a channel that were asked for."""
    channel = request.GET["channel"]
    return JsonResponse(
        [entry for entry in requests if entry["path"] == "/events/" and channel in entry["channels"]], safe=False
    )


_POLICY = {"default-src": ["'none'"], "script-src": [NONCE], "connect-src": ["'self'"]}

urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("orders/", orders),
    path("page/", page),
    path("raw/<str:body>/", raw),
    path("favicon.ico", lambda request: HttpResponse(status=204)),
    path("answer/", answer),
    path("control/answered/", answered),
    path("recipe/<path:body>/", recipe),
    path("library/<str:name>", library),
    path("control/publish/", publish),
    path("control/requests/", recorded),
    path("csp/package/", decorator_from_middleware(CSPMiddleware)(csp(_POLICY)(page))),
]

if django.VERSION >= (6, 0):
    from django.middleware.csp import ContentSecurityPolicyMiddleware
    from django.utils.csp import CSP
    from django.views.decorators.csp import csp_override

    django_page = csp_override(_POLICY | {"script-src": [CSP.NONCE]})(page)
    urlpatterns.append(path("csp/django/", decorator_from_middleware(ContentSecurityPolicyMiddleware)(django_page)))
