"""The format of an event stream: WHATWG HTML, section 9.2.5 and 9.2.6. No Django in here.

A block is built from validated fields only, so a frame that forges a field cannot be represented::

    encode("two\\r\\nlines", event="status", id="41")

    id: 41
    event: status
    data: two
    data: lines
    <blank line>

A line ends with CR LF, LF or a lone CR (9.2.5), so data is split on all three and arrives with LF. The space after
each colon is always written: the parser drops exactly one, which keeps the value's own leading spaces.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from django_sse.exceptions import InvalidField

__all__ = ["MESSAGE", "ServerSentEvent", "close", "comment", "encode", "heartbeat", "mark", "reset", "retry"]

MESSAGE: Final = "message"
"""The type of an unnamed event: the one that ``onmessage`` receives."""

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_FORBIDDEN: Final = re.compile(r"[\r\n\x00]")


def _field(name: str, value: str) -> str:
    if _FORBIDDEN.search(value):
        raise InvalidField(f"{name} {value!r} holds CR, LF or NUL; those would end the field or void it.")
    return f"{name}: {value}\n"


def encode(data: str, *, event: str = MESSAGE, id: str | None = None) -> bytes:
    """Return one event as bytes, ending in its blank line.

    ``data`` is any text that UTF-8 can carry; ``event`` and ``id`` may not hold CR, LF or NUL.
    Raises ``InvalidField`` otherwise.
    """
    head = _field("id", id) if id is not None else ""
    if event != MESSAGE:
        head += _field("event", event)
    body = "".join([f"data: {line}\n" for line in _LINE_END.split(data)])
    try:
        return f"{head}{body}\n".encode()
    except UnicodeEncodeError as error:
        raise InvalidField(f"A lone surrogate, {error.object[error.start]!r}, cannot be sent as UTF-8.") from error


def mark(position: int) -> bytes:
    """Return a block with an id alone: it moves the browser's last event ID and fires no event (9.2.6)."""
    return b"id: %d\n\n" % position


def heartbeat(position: int, seconds: float) -> bytes:
    """Return a mark that a page can hear, and that says after how many seconds the next is due; 0: none will come.

    A script is told nothing of a block without data, so it can neither notice silence nor learn the position by it.
    """
    return encode(f"{seconds:g}", event="sse.heartbeat", id=str(position))


def retry(milliseconds: int) -> bytes:
    """Return the block that sets the reconnection time (9.2.6: ASCII digits only)."""
    return b"retry: %d\n\n" % milliseconds


def comment() -> bytes:
    """Return an empty comment: bytes for the proxies on the way that change nothing in the browser."""
    return b":\n\n"


def reset(position: int, reason: str) -> bytes:
    """Return the event that says: what lay between your last event ID and ``position`` cannot be shown.

    ``reason`` is ``expired`` (trimmed from the log), ``ahead`` (the log is younger than the id), ``malformed``
    (not an id of ours) or ``unreadable`` (this one row of the log cannot be an event).
    """
    return encode(f'{{"reason":"{reason}","id":{position}}}', event="sse.reset", id=str(position))


def close(reason: str, *, final: bool = True) -> bytes:
    """Return the last event of a stream that the server ends on purpose. It has no id, so it moves no cursor.

    ``final=False`` tells the package's client to come back; a browser's own EventSource does so in any case.
    """
    return encode(json.dumps({"reason": reason} if final else {"reason": reason, "final": False}), event="sse.close")


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event for a stream of one's own: ``data`` is the text that goes on the wire. See ``encode``."""

    data: str
    event: str = MESSAGE
    id: str | None = None

    def encode(self) -> bytes:
        return encode(self.data, event=self.event, id=self.id)
