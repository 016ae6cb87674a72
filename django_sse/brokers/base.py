"""What a broker must do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Broker", "Listener"]


class Listener(Protocol):
    """Who is told: the hub of one event loop. The methods are called in that loop's thread and return at once."""

    def connected(self) -> None:
        """You hear from now on, perhaps again: anything may have been missed."""

    def doorbell(self) -> None:
        """There may be something new in the log."""

    def ephemeral(self, channel: str, type: str, data: str) -> None:
        """Here is an event that is not in the log."""

    def announcement(self, announcement: dict[str, Any]) -> None:
        """Here is what a hub tells the others. Raises ``ValueError`` for what no hub wrote."""


class Broker(ABC):
    """The wake-up between processes. It only saves time: every hub also polls the log.

    A stored event never travels through a broker, only its position, and a listener does not even trust that.
    """

    crosses_processes: bool
    """Whether a hub in another process hears it."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = options

    def validate(self, channel: str, type: str, data: str) -> None:  # noqa: B027 - most can carry anything
        """Raise ``InvalidEvent`` for an event that ``send`` cannot carry. Called at the door."""

    @abstractmethod
    def notify(self, position: int) -> None:
        """Ring at every hub: the log now reaches to ``position``.

        Called in any thread, after commit. Never raises, never waits for a server that does not answer.
        """

    @abstractmethod
    def send(self, channel: str, type: str, data: str) -> None:
        """Hand an event that is not stored to every hub. As ``notify``; it may be lost."""

    def announce(self, announcement: dict[str, Any]) -> None:  # noqa: B027 - one that cannot: limits are each process's
        """Hand to every hub what a hub tells the others: a small JSON object. As ``send``, but nobody misses it."""

    @abstractmethod
    async def listen(self, listener: Listener) -> None:
        """Tell ``listener`` about every ``notify``, ``send`` and ``announce`` until cancelled.

        Reconnects for ever with growing pauses, and says ``connected`` after every reconnect, since a ring may have
        been missed.
        """
