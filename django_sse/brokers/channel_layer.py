"""A broker over a layer of Django Channels, for projects that already run one.

``{"BACKEND": "django_sse.brokers.channel_layer.ChannelLayerBroker", "OPTIONS": {"ALIAS": "default"}}``. A layer may
drop what it carries, which is right for a doorbell; the poll makes up for it.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, Final

from channels.exceptions import InvalidChannelLayerError
from channels.layers import InMemoryChannelLayer, channel_layers, get_channel_layer
from django.core.exceptions import ImproperlyConfigured

from django_sse.brokers.network import PING_DEADLINE, NetworkBroker, heed_cancellation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

__all__ = ["ChannelLayerBroker"]

GROUP: Final = "django_sse"
TYPE: Final = "django_sse.ring"
PING_AFTER: Final = 3.0
"""Seconds of silence before a ping. channels_redis waits for a message for 5 s at a time, and redis-py gives an answer
no more than 5 s: on a quiet layer they would end together, as a failure."""


class ChannelLayerBroker(NetworkBroker):
    """A group of the layer ``ALIAS``; every hub is a member."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._alias = alias = options.get("ALIAS", "default")
        try:
            self._layer: Any = get_channel_layer(alias)
        except (InvalidChannelLayerError, KeyError) as error:
            raise ImproperlyConfigured(f"ChannelLayerBroker: the channel layer {alias!r} fails: {error!r}") from error
        if self._layer is None:
            raise ImproperlyConfigured(
                f"ChannelLayerBroker: there is no channel layer {alias!r}. Add it to CHANNEL_LAYERS, or name another "
                "in OPTIONS['ALIAS']."
            )
        self.crosses_processes = not isinstance(self._layer, InMemoryChannelLayer)
        self._runner: asyncio.Runner | None = None
        self._inherited: list[asyncio.Runner | None] = []
        os.register_at_fork(after_in_child=self._disown)

    def _disown(self) -> None:
        # The parent's. Kept, because a loop that is freed is closed, and takes what both wait with from the parent.
        self._inherited.append(self._runner)
        self._runner = None

    def _publish(self, message: str) -> None:
        if self._runner is None:
            # A loop that stays, with the layer's connections in it. The ringer is the one thread that gets here.
            self._runner = asyncio.Runner()
        self._runner.run(self._group_send(message))

    async def _group_send(self, message: str) -> None:
        async with asyncio.timeout(PING_DEADLINE):
            await self._layer.group_send(GROUP, {"type": TYPE, "message": message})

    async def _messages(self) -> AsyncGenerator[str, None]:
        # A layer of its own: one may be received from in one event loop at a time.
        layer: Any = channel_layers.make_backend(self._alias)
        receiving: asyncio.Task[Any] | None = None
        try:
            async with asyncio.timeout(PING_DEADLINE):
                channel = await layer.new_channel()
                await layer.group_add(GROUP, channel)
            yield ""
            while True:
                # A task, so that neither a ping nor the end of this listener has to interrupt the layer's own waiting.
                receiving = receiving or asyncio.create_task(layer.receive(channel))
                await asyncio.wait([receiving], timeout=PING_AFTER)
                if not receiving.done():
                    async with asyncio.timeout(PING_DEADLINE):
                        await layer.group_add(GROUP, channel)  # memberships expire
                        await layer.send(channel, {"type": TYPE, "message": ""})
                        await asyncio.wait([receiving])
                    heed_cancellation()
                message = receiving.result()
                receiving = None
                if message["message"]:
                    yield message["message"]
        finally:
            if receiving:
                receiving.add_done_callback(lambda task: task.cancelled() or task.exception())  # nobody asks any more
                # It may have got a message just now, and then tidies up behind that, on the connections below.
                for _ in range(3):
                    receiving.cancel()  # again, where it was swallowed
                    if (await asyncio.wait([receiving], timeout=PING_DEADLINE / 3))[0]:
                        break
            close = getattr(layer, "close_pools", None)
            if close is None and type(layer).__module__ == "channels_redis.pubsub":
                close = layer.flush  # closes what this object has; other layers empty the server by that name
            if close:
                async with asyncio.timeout(PING_DEADLINE):
                    await close()
