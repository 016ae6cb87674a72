"""The broker for one process, with nothing to install. Other processes' events are found by the poll."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from django_sse.brokers.base import Broker

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Mapping

    from django_sse.brokers.base import Listener

__all__ = ["LocalBroker"]


class LocalBroker(Broker):
    """Calls the hubs of this process, each in its own event loop."""

    crosses_processes = False

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._listeners: set[tuple[AbstractEventLoop, Listener]] = set()
        # The loops of a parent process do not run in its child.
        os.register_at_fork(after_in_child=self._listeners.clear)

    def notify(self, position: int) -> None:
        self._call(lambda listener: listener.doorbell())

    def send(self, channel: str, type: str, data: str) -> None:
        self._call(lambda listener: listener.ephemeral(channel, type, data))

    def announce(self, announcement: dict[str, Any]) -> None:
        self._call(lambda listener: listener.announcement(announcement))

    async def listen(self, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        entry = (loop, listener)
        self._listeners.add(entry)
        try:
            listener.connected()
            await loop.create_future()
        finally:
            self._listeners.discard(entry)

    def _call(self, tell: Callable[[Listener], None]) -> None:
        for loop, listener in tuple(self._listeners):
            try:
                loop.call_soon_threadsafe(tell, listener)
            except RuntimeError:  # that loop was closed before it could say goodbye
                self._listeners.discard((loop, listener))
