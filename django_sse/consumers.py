"""Channels consumers over the same log: a WebSocket client that comes back gets what it missed. Needs ``channels``.

::

    URLRouter([path("live/", EventConsumer.as_asgi())])

The client connects to ``/live/?channel=public.orders&since=41`` and is sent one JSON object for each event,
``{"id": 42, "type": "status", "data": "…"}``, with ``data`` as a browser's ``event.data``; and now and then an ``id``
alone, which moves its place. It keeps the last ``id``, and gives it as ``since`` when it connects again: that, and the
reconnecting, are the client's own work. A right that ends, and the limits of streams and replay, end this one too. Put
the router into ``AuthMiddlewareStack`` and ``AllowedHostsOriginValidator``: browsers let any site open a WebSocket, and
send the visitor's cookies.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing, suppress
from copy import copy
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, cast

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.contrib.auth.models import AnonymousUser
from django.core.exceptions import SuspiciousOperation
from django.core.handlers.asgi import ASGIRequest
from django.db import InterfaceError, OperationalError
from django.http import HttpResponseForbidden

from django_sse.access import is_allowed
from django_sse.admission import Admitted, admit
from django_sse.channels import check_channel
from django_sse.conf import settings
from django_sse.cursor import parse
from django_sse.descriptors import needs_descriptors
from django_sse.exceptions import InvalidChannel
from django_sse.parser import Parser
from django_sse.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpRequest

    from django_sse.parser import ReceivedEvent

__all__ = ["AWAY", "ENDED", "EventConsumer"]

logger = logging.getLogger(__name__)

AWAY: Final = 4012
"""The close code of a stream that ended by age or with the server, is one too many, or finds no database: come back.
1012 says it, and daphne refuses that."""
ENDED: Final = 4003
"""The close code after ``sse.close``, whose data says for what reason the right has ended."""


class EventConsumer(AsyncJsonWebsocketConsumer):
    """Sends the events of its channels. A subclass may override ``get_channels``, and ``receive_json`` to listen.

    ``channels``: fixed by the developer, whose word is the permission; ``None``: the client asks with
    ``?channel=``, and ``DJANGO_SSE["AUTHORIZE"]`` decides, all or nothing.
    """

    channels: Iterable[str] | None = None

    async def get_channels(self) -> Iterable[str] | None:
        """Return the channels that this client may read; ``None``: ask the client and the authoriser.

        Asked again every ``RECHECK`` seconds, of a copy whose ``scope`` has session and user as they are then.
        """
        return self.channels

    async def connect(self) -> None:
        request = _request(self.scope)
        admitted: object = None
        try:
            with needs_descriptors():
                admitted = await admit(request, partial(self._decide, request), stays=True)
        except (OperationalError, InterfaceError) as error:  # nobody could say yes or no
            logger.warning("A WebSocket could not be opened, its client may come back: %r", error)
        if isinstance(admitted, HttpResponseForbidden):
            await self.close()  # before it was accepted: 403
            return
        await self.accept()
        if not isinstance(admitted, Admitted):
            await self.close(AWAY)
            return
        if admitted.grant:
            admitted.grant.ask = partial(self._again, admitted.names)
        since = parse(request.GET.get("since", ""))
        self._sending = asyncio.create_task(self._send_all(admitted, since))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve the WebSocket. Its stream ends with it, however that ends: where a frame makes ``receive_json`` raise,
        or is no JSON, Channels calls no ``disconnect``."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            if sending := getattr(self, "_sending", None):
                sending.cancel()

    async def send_event(self, event: ReceivedEvent) -> None:
        """Send one event. An ephemeral one has the ``id`` of what came before it, as in a browser, and None before
        any."""
        id = int(event.last_event_id) if event.last_event_id else None
        await self.send_json({"id": id, "type": event.type, "data": event.data})

    async def _decide(self, request: HttpRequest) -> frozenset[str]:
        """Return the channels that this client may read: none is a refusal."""
        try:
            channels = await self.get_channels()
            if channels is not None:
                return frozenset(map(check_channel, channels))
            asked = request.GET.getlist("channel")
            names = frozenset(map(check_channel, asked))
        except (InvalidChannel, SuspiciousOperation):  # more parameters than Django takes
            return frozenset()
        few = len(asked) <= settings.MAX_CHANNELS
        return names if few and await is_allowed(request, sorted(names)) else frozenset()

    async def _again(self, names: frozenset[str], request: HttpRequest) -> bool:
        """Tell whether ``request``, made anew, may still read all of ``names``."""
        now: Any = copy(self)
        now.scope = {**self.scope, "user": request.user, "session": request.session}
        return names <= cast("frozenset[str]", await now._decide(request))

    async def _send_all(self, admitted: Admitted, since: Any) -> None:
        parser = Parser()
        try:
            stream = await Stream.open(admitted.names, since)
            stream.grant = admitted.grant
            async with aclosing(aiter(stream)) as pieces:
                async for data in pieces:
                    before = parser.last_event_id
                    events = parser.feed(data)
                    for event in events:
                        await self.send_event(event)
                    if not events and parser.last_event_id != before:
                        await self.send_json({"id": int(parser.last_event_id)})
                    if any(event.type == "sse.close" for event in events):
                        await self.close(ENDED)
                        return
            await self.close(AWAY)
        except Exception as error:
            logger.warning("A WebSocket's stream ended, its client may come back: %r", error)
            with suppress(Exception):  # what failed may have been the socket
                await self.close(AWAY)


def _request(scope: Any) -> ASGIRequest:
    """Return what an authoriser looks at: the handshake as the request that it was."""
    handshake = ASGIRequest({**scope, "type": "http", "method": "GET"}, BytesIO())
    request: Any = handshake  # gets what middleware puts on a request
    request.user = scope.get("user") or AnonymousUser()
    if "session" in scope:
        request.session = scope["session"]

    async def auser() -> Any:
        return request.user

    request.auser = auser
    return handshake
