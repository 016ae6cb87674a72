"""The project that first_token.py and sse_or_websocket.py serve: one SQLite file, and the same event three ways."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings

_SQLITE = {
    "ENGINE": "django.db.backends.sqlite3",
    "NAME": os.environ.get("MEASURED_DATABASE", "measured.sqlite3"),
    "OPTIONS": {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL"},
}
_LAYERS = {
    "memory": {"BACKEND": "channels.layers.InMemoryChannelLayer"},
    "redis": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            # redis-py's own limit is 100 connections, and every consumer takes one.
            "hosts": [{"address": os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"), "max_connections": 10_000}],
            "prefix": "django_sse_measured",
        },
    },
}

if not settings.configured:
    settings.configure(
        SECRET_KEY="measured",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF="benchmarks.measured",
        DATABASES={"default": _SQLITE},
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_sse"],
        CHANNEL_LAYERS={"default": _LAYERS[os.environ.get("MEASURED_LAYER", "memory")]},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        LOGGING_CONFIG=None,
    )
    django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402
from channels.layers import get_channel_layer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402

from django_sse import asend_event  # noqa: E402
from django_sse.asgi import get_asgi_application  # noqa: E402
from django_sse.consumers import EventConsumer  # noqa: E402
from django_sse.responses import EventStreamResponse  # noqa: E402
from django_sse.tokens import token_stream  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHANNEL = "public.measured"
THINKS = 0.05


class Group(AsyncJsonWebsocketConsumer):
    """Channels as its documentation has it."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("measured", self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("measured", self.channel_name)

    async def measured(self, message: dict[str, Any]) -> None:
        await self.send_json(message["data"])


class Log(EventConsumer):
    channels = [CHANNEL]


async def publish(request: HttpRequest, how: str) -> HttpResponse:
    data = {**json.loads(request.body), "at": time.monotonic()}
    if how == "group":
        await get_channel_layer().group_send("measured", {"type": "measured", "data": data})
    else:
        await asend_event(CHANNEL, None, data)
    return HttpResponse("published")


async def first_token(request: HttpRequest) -> EventStreamResponse:
    """Its first token says how long it was thought about, on this clock."""
    asked = time.monotonic()

    async def tokens() -> AsyncIterator[str]:
        await asyncio.sleep(THINKS)
        yield f"{time.monotonic() - asked}"
        yield "second"

    return EventStreamResponse(tokens())


async def logged_token(request: HttpRequest) -> HttpResponse:
    """One token through the log; it says when it was made."""
    async with token_stream(request.GET["channel"]) as stream:
        await stream.send(f"{time.monotonic()} ")
        await asyncio.sleep(0.3)
    return HttpResponse("streamed")


urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("publish/<str:how>/", publish),
    path("first/", first_token),
    path("logged/", logged_token),
]
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter(
            [path("group/", Group.as_asgi()), path("log/", Log.as_asgi())]  # type: ignore[arg-type]
        ),
    }
)
