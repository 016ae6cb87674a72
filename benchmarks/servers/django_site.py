"""django_sse and django-eventstream in one project; each is served by the application that its documentation names."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application as django_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.servers.settings")
peer = django_asgi_application()

import django_eventstream.urls  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from django_eventstream import send_event as send_by_peer  # noqa: E402

from benchmarks.servers.event import values  # noqa: E402
from django_sse.asgi import get_asgi_application  # noqa: E402

application = get_asgi_application()


def publish(request: HttpRequest) -> HttpResponse:
    """django-eventstream reaches only the streams of its own process, unless Redis carries its events."""
    first, count = int(request.GET["first"]), int(request.GET["count"])
    for number in range(first, first + count):
        send_by_peer("bench", "message", values(number))
    return HttpResponse()


urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("peer/", include(django_eventstream.urls), {"channels": ["bench"]}),
    path("publish/", publish),
]
