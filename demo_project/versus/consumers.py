"""The WebSockets of the comparison: notifications as Channels carries them, and a chat."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import get_channel_layer

from django_sse import asend_event
from django_sse.consumers import AWAY, EventConsumer

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Chat", "Notifications", "drop", "tell"]

_LONGEST: Final = 200


class Notifications(AsyncJsonWebsocketConsumer):
    """As the documentation of Channels has it: a group, and whoever is in it is told."""

    left = False

    async def connect(self) -> None:
        self.run = self.scope["url_route"]["kwargs"]["run"]
        await self.channel_layer.group_add(_group(self.run), self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(_group(self.run), self.channel_name)

    async def notification(self, message: dict[str, Any]) -> None:
        if not self.left:
            await self.send_json(message["data"])

    async def leave(self, message: dict[str, Any]) -> None:
        self.left = True
        await self.channel_layer.group_discard(_group(self.run), self.channel_name)
        await self.close(AWAY)


def _group(run: str) -> str:
    return f"versus.{run}"


async def tell(run: str, data: dict[str, Any]) -> None:
    """Tell every socket of ``run`` that is connected at this moment."""
    await _send(run, {"type": "notification", "data": data})


async def drop(run: str) -> None:
    """Close the sockets of ``run``, as a server does that goes away. They get nothing of what they are told later."""
    await _send(run, {"type": "leave"})


async def _send(run: str, message: dict[str, Any]) -> None:
    layer: Any = get_channel_layer()
    await layer.group_send(_group(run), message)


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
