"""Reads an event stream: WHATWG HTML, section 9.2.6. No Django in here."""

from __future__ import annotations

import json
from codecs import getincrementaldecoder
from dataclasses import dataclass
from typing import Any, Final

from django_sse.wire import MESSAGE

__all__ = ["Parser", "ReceivedEvent"]

_DIGITS: Final = 18
"""Of a reconnection time: Python refuses to read thousands, and no browser waits for longer than these are."""


@dataclass(frozen=True)
class ReceivedEvent:
    """An event as a browser's handler gets it: ``event.type``, ``event.data`` and ``event.lastEventId``."""

    type: str
    data: str
    last_event_id: str

    def json(self) -> Any:
        """Return the data as the value it was published as."""
        return json.loads(self.data)


class Parser:
    """Reads an event stream as WHATWG HTML 9.2.6 asks of a browser, fed in pieces of any size."""

    def __init__(self) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        """The reconnection time in milliseconds, once the stream has set it."""
        self._decode = getincrementaldecoder("utf-8-sig")("replace").decode
        self._rest = ""
        self._data: list[str] = []
        self._type = ""
        self._id: str | None = None

    def feed(self, piece: bytes) -> list[ReceivedEvent]:
        """Return the events that ``piece`` completes."""
        text = self._rest + self._decode(piece)
        # A CR at the end may be half of a CR LF: it waits for what follows.
        held = "\r" if text.endswith("\r") else ""
        text = text[: len(text) - len(held)].replace("\r\n", "\n").replace("\r", "\n")
        *lines, rest = text.split("\n")
        self._rest = rest + held
        return [event for line in lines if (event := self._line(line))]

    def _line(self, line: str) -> ReceivedEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and value.isascii() and value.isdigit() and len(value) <= _DIGITS:
            self.retry = int(value)
        return None

    def _dispatch(self) -> ReceivedEvent | None:
        if self._id is not None:
            self.last_event_id = self._id
        data, event_type = self._data, self._type or MESSAGE
        self._data, self._type, self._id = [], "", None
        return ReceivedEvent(event_type, "\n".join(data), self.last_event_id) if data else None
