"""Channels consumers over the same log: a WebSocket client that comes back gets what it missed. Needs ``channels``.

::

    URLRouter([path("live/", EventConsumer.as_asgi())])

The client connects to ``/live/?channel=public.orders&since=41`` and is sent one JSON object for each event,
``{"id": 42, "type": "status", "data": "…"}``, with ``data`` as a browser's ``event.data``; and now and then an ``id``
alone, which moves its place. It keeps the last ``id``, and gives it as ``since`` when it connects again: that, and the
reconnecting, are the client's own work. Put the router into ``AuthMiddlewareStack`` and
``AllowedHostsOriginValidator``: browsers let any site open a WebSocket, with the visitor's cookies.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth.models import AnonymousUser
from django.core.handlers.asgi import ASGIRequest

from django_sse.access import is_allowed
from django_sse.channels import check_channel
from django_sse.conf import settings
from django_sse.cursor import parse
from django_sse.parser import Parser
from django_sse.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django_sse.parser import ReceivedEvent

__all__ = ["AWAY", "EventConsumer"]

logger = logging.getLogger(__name__)

AWAY: Final = 4012
"""The close code of a stream that ended by age or with the server: come back. 1012 says it, and daphne refuses that."""


class EventConsumer(AsyncJsonWebsocketConsumer):
    """Sends the events of its channels. A subclass may override ``get_channels``, and ``receive_json`` to listen.

    ``channels``: fixed by the developer, whose word is the permission; ``None``: the client asks with
    ``?channel=``, and ``DJANGO_SSE["AUTHORIZE"]`` decides, all or nothing.
    """

    channels: Iterable[str] | None = None

    async def get_channels(self) -> Iterable[str] | None:
        """Return the channels that this client may read; ``None``: ask the client and the authoriser."""
        return self.channels

    async def connect(self) -> None:
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        try:
            channels = await self.get_channels()
            if channels is None:
                channels = [check_channel(name) for name in query.get("channel", ())]
                allowed = len(channels) <= settings.MAX_CHANNELS and await is_allowed(_request(self.scope), channels)
                channels = channels if allowed else ()
            names = frozenset(map(check_channel, channels))
        except ValueError:
            names = frozenset()
        if not names:
            await self.close()  # before it was accepted: 403
            return
        since = parse(query.get("since", [""])[0])
        await self.accept()
        self._sending = asyncio.create_task(self._send_all(names, since))

    async def disconnect(self, code: int) -> None:
        if sending := getattr(self, "_sending", None):
            sending.cancel()

    async def send_event(self, event: ReceivedEvent) -> None:
        """Send one event. An ephemeral one has the ``id`` of what came before it, as in a browser."""
        await self.send_json({"id": int(event.last_event_id), "type": event.type, "data": event.data})

    async def _send_all(self, channels: frozenset[str], since: Any) -> None:
        parser = Parser()
        try:
            stream = await Stream.open(channels, since)
            async with aclosing(aiter(stream)) as pieces:
                async for data in pieces:
                    before = parser.last_event_id
                    events = parser.feed(data)
                    for event in events:
                        await self.send_event(event)
                    if not events and parser.last_event_id != before:
                        await self.send_json({"id": int(parser.last_event_id)})
            await self.close(AWAY)
        except Exception as error:
            logger.warning("A WebSocket's stream ended, its client may come back: %r", error)
            await self.close(AWAY)


def _request(scope: Any) -> ASGIRequest:
    """Return what an authoriser looks at: the handshake as the request that it was."""
    request: Any = ASGIRequest({**scope, "type": "http", "method": "GET"}, BytesIO())
    request.user = scope.get("user") or AnonymousUser()
    request.session = scope.get("session", {})

    async def auser() -> Any:
        return request.user

    request.auser = auser
    return request  # type: ignore[no-any-return]
