"""django_sse, django-eventstream and Channels in one project; each is served by the application that its own
documentation names."""

from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application as django_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.servers.settings")
peer = django_asgi_application()

import django_eventstream.urls  # noqa: E402
from asgiref.sync import async_to_sync  # noqa: E402
from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402
from django_eventstream import send_event as send_by_peer  # noqa: E402

from benchmarks.servers.event import values  # noqa: E402
from django_sse.asgi import get_asgi_application  # noqa: E402

application = get_asgi_application()


class Group(AsyncJsonWebsocketConsumer):
    """Channels as its tutorial has it, for those who are logged in."""

    async def connect(self) -> None:
        if not self.scope["user"].is_authenticated:
            await self.close()
            return
        await self.channel_layer.group_add("bench", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("bench", self.channel_name)

    async def bench(self, message: dict[str, Any]) -> None:
        await self.send_json(message["data"])


_sockets: Any = URLRouter([path("socket/", Group.as_asgi())])  # type: ignore[arg-type]
channels = ProtocolTypeRouter({"http": peer, "websocket": AuthMiddlewareStack(_sockets)})


def publish(request: HttpRequest) -> HttpResponse:
    """django-eventstream reaches only the streams of its own process, unless Redis carries its events."""
    first, count = int(request.GET["first"]), int(request.GET["count"])
    for number in range(first, first + count):
        send_by_peer("bench", "message", values(number))
    return HttpResponse()


def publish_to_group(request: HttpRequest) -> HttpResponse:
    first, count = int(request.GET["first"]), int(request.GET["count"])
    send = async_to_sync(get_channel_layer().group_send)
    for number in range(first, first + count):
        send("bench", {"type": "bench", "data": values(number)})
    return HttpResponse()


urlpatterns = [
    path("publish-to-group/", publish_to_group),
    path("events/", include("django_sse.urls")),
    path("peer/", include(django_eventstream.urls), {"channels": ["bench"]}),
    path("publish/", publish),
]
