"""The WebSockets of the comparison: notifications as Channels carries them, and a chat."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import get_channel_layer

from django_sse import asend_event
from django_sse.consumers import AWAY, EventConsumer

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Chat", "Notifications", "drop", "tell"]

_LONGEST: Final = 200
_open: defaultdict[str, set[Notifications]] = defaultdict(set)
"""The sockets of each run, in this process: the demo has one."""


class Notifications(AsyncJsonWebsocketConsumer):
    """As the documentation of Channels has it: a group, and whoever is in it is told."""

    async def connect(self) -> None:
        self.run = self.scope["url_route"]["kwargs"]["run"]
        await self.channel_layer.group_add(_group(self.run), self.channel_name)
        await self.accept()
        _open[self.run].add(self)

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(_group(self.run), self.channel_name)
        _open[self.run].discard(self)

    async def notification(self, message: dict[str, Any]) -> None:
        await self.send_json(message["data"])


def _group(run: str) -> str:
    return f"versus.{run}"


async def tell(run: str, data: dict[str, Any]) -> None:
    """Tell every socket of ``run`` that is connected at this moment."""
    layer: Any = get_channel_layer()
    await layer.group_send(_group(run), {"type": "notification", "data": data})


async def drop(run: str) -> None:
    """Close the sockets of ``run``, as a server does that goes away."""
    for socket in tuple(_open.pop(run, ())):
        await socket.channel_layer.group_discard(_group(run), socket.channel_name)
        await socket.close(AWAY)


class Chat(EventConsumer):
    """Both directions at once. What was said is in the log, so whoever comes back gets what was said meanwhile."""

    channels: Iterable[str] | None = ["public.chat"]

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        if not isinstance(content, dict):
            return
        name, text = (str(content.get(field, "")).strip()[:_LONGEST] for field in ("name", "text"))
        if "typing" in content:
            await asend_event("public.chat", "typing", {"name": name}, store=False)
        elif text:
            await asend_event("public.chat", "said", {"name": name or "somebody", "text": text})
