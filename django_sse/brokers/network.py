"""What the brokers that cross processes have in common."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
from abc import abstractmethod
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from django_sse import wire
from django_sse.brokers.local import LocalBroker
from django_sse.brokers.ringer import Ringer
from django_sse.channels import check_channel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from django_sse.brokers.base import Listener

__all__ = ["NetworkBroker", "heed_cancellation"]

logger = logging.getLogger(__name__)

PING_AFTER: Final = 5.0
"""Seconds of silence after which a listener asks whether its connection still lives."""
PING_DEADLINE: Final = 3.0
"""Seconds that the answer may take. A dead connection that looks alive is the fault that nobody notices."""
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts to reconnect: they grow up to this, for ever."""


class NetworkBroker(LocalBroker):
    """Tells the hubs of this process directly and those of others through a server.

    A subclass says how to ``_publish`` one message, and how to receive ``_messages``. A message is a JSON list: the
    sender, and either a position, the channel, type and data of an ephemeral event, or an announcement, which is an
    object. The sender's own process ignores it. What anybody else may have written there is checked like a stranger's
    word.
    """

    crosses_processes = True

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        self._id = uuid4().hex[:12]
        self._ringer = Ringer(self._tell)

    @abstractmethod
    def _publish(self, message: str) -> None:
        """Send ``message`` to every listener. Called in one thread; may raise anything, within seconds."""

    @abstractmethod
    def _messages(self) -> AsyncGenerator[str, None]:
        """Connect, yield an empty text, then every message. Raise when the connection is dead, half-open included."""

    def notify(self, position: int) -> None:
        super().notify(position)
        self._ringer.ring(position)

    def send(self, channel: str, type: str, data: str) -> None:
        super().send(channel, type, data)
        self._ringer.send(self._encode(channel, type, data))

    def announce(self, announcement: dict[str, Any]) -> None:
        super().announce(announcement)
        self._ringer.announce(announcement)

    async def listen(self, listener: Listener) -> None:
        local = asyncio.create_task(super().listen(listener))
        pause = FIRST_PAUSE
        failing = False
        try:
            while True:
                try:
                    async with aclosing(self._messages()) as messages:
                        async for message in messages:
                            heed_cancellation()
                            if failing:
                                logger.info("The broker is back")
                            failing, pause = False, FIRST_PAUSE
                            self._hear(message, listener)
                except Exception as error:
                    if not failing:
                        logger.warning("The broker cannot be heard, until it is back the poll serves: %r", error)
                    failing = True
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LONGEST_PAUSE)
        finally:
            local.cancel()

    def _hear(self, message: str, listener: Listener) -> None:
        if not message:
            listener.connected()
            return
        try:
            sender, *content = json.loads(message)
            if sender == self._sender:
                return
            if len(content) == 1:
                if isinstance(content[0], dict):
                    listener.announcement(content[0])
                else:
                    listener.doorbell()
                return
            channel, event_type, data = content
            wire.encode(data, event=event_type)
            if event_type.startswith("sse."):
                raise ValueError("reserved: only a process itself tells its clients such a thing")
            listener.ephemeral(check_channel(channel), event_type, data)
        except (ValueError, TypeError, AttributeError, RecursionError):
            logger.warning("The broker delivered something that django_sse did not write; ignored")

    @property
    def _sender(self) -> str:
        return f"{self._id}.{os.getpid()}"  # a forked child is somebody else

    def _encode(self, *content: int | str | dict[str, Any]) -> str:
        return json.dumps([self._sender, *content], separators=(",", ":"))

    def _tell(self, item: int | str | dict[str, Any]) -> None:
        self._publish(item if isinstance(item, str) else self._encode(item))


def heed_cancellation() -> None:
    """Raise ``CancelledError`` where this task was cancelled and what it waited for has swallowed that.

    ``asyncio.wait_for`` does up to Python 3.11, if it ends at the same time, and redis-py sends each command in one. A
    listener that is cancelled once would then listen for ever, and keep its event loop from ending.
    """
    task = asyncio.current_task()
    if task and task.cancelling():
        raise asyncio.CancelledError
