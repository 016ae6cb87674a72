"""What the processes tell each other through the log: rows of a channel that no client can name.

A row of the log is committed with what it tells about, reaches every process by the doorbell or by the poll, and
waits for a process that is late. No message of a broker has any of the three.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Set

__all__ = ["CONTROL", "REASON_LENGTH", "Notice", "fingerprint"]

CONTROL: Final = "!control"
"""The channel of the notices: not a channel name, so it can neither be published to nor asked for."""
REASON_LENGTH: Final = 100


def fingerprint(session_key: str) -> str:
    """Return what stands for a session where its key may not be: 128 bits, from which the key cannot be found."""
    return sha256(b"django_sse.session:" + session_key.encode()).hexdigest()[:32]


class Notice(NamedTuple):
    """Close the streams to which everything that is given applies; with ``ask``, only ask whether they may go on."""

    reason: str
    users: frozenset[str] | None = None
    """Primary keys, as text."""
    session: str | None = None
    """Fingerprint of a session that is over for good."""
    channel: str | None = None
    ask: bool = False
    final: bool = True
    """Whether the page is to give up: no right can come back by coming back."""

    def concerns(self, user: str | None, session: str | None, channels: Set[str]) -> bool:
        """Tell whether this is about a stream of ``channels`` that ``user`` opened in ``session``."""
        return (
            (self.users is None or user in self.users)
            and (self.session is None or session == self.session)
            and (self.channel is None or self.channel in channels)
        )

    def encode(self) -> str:
        """Return the data of the row: one line of ASCII."""
        given = self._asdict() | {"users": None if self.users is None else sorted(self.users)}
        return json.dumps({name: value for name, value in given.items() if value != self._field_defaults.get(name)})

    @classmethod
    def decode(cls, text: str) -> Notice:
        """Read what ``encode`` wrote. Raises ``ValueError`` or ``TypeError`` for anything else."""
        given = json.loads(text)
        if not isinstance(given, dict) or not isinstance(given.get("reason"), str):
            raise ValueError("A notice is a JSON object with a reason.")
        if "users" in given:
            given["users"] = frozenset(map(str, given["users"]))
        return cls(**given)
