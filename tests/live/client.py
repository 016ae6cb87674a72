"""A client over a bare socket: what the wire carried, byte for byte, and a way to leave it without manners."""

from __future__ import annotations

import re
import socket
import struct
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from tests.checker import Arrival, Connection, Parser, Received
from tests.server import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from tests.server import Server

__all__ = ["Client", "arrival", "connect", "ticks"]

ticks: Final = iter(time.monotonic_ns, None)
"""The clock that publishers and clients share, in whatever process of this machine they are."""


def arrival(block: Received) -> Arrival:
    """Write down one block. Text that arrives as JSON is the text in quotes."""
    at = int(block.id)
    if block.type == "sse.reset":
        reason = re.search(r'"reason":"(\w+)"', block.data)
        return Arrival(at, reset=reason[1] if reason else "?", tick=next(ticks))
    return Arrival(at, None if block.type is None else block.data.strip('"'), tick=next(ticks))


class Client:
    """One connection. Nothing is read but in ``until`` and ``drain``, so the test decides what the client has seen."""

    def __init__(
        self,
        server: Server,
        channels: Iterable[str],
        last: int | None = None,
        *,
        name: str = "client",
        path: str = "/events/",
        query: str = "",
        by: str = "Last-Event-ID",
        headers: Mapping[str, str] = {},
    ) -> None:
        self.log = Connection(name, frozenset(channels), last)
        self.parser = Parser()
        self.blocks: list[Received] = []
        self.body = b""
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.ended = False
        """The body ended as HTTP says a body ends."""
        self.cut = False
        """The connection ended before the body did."""
        self._rest = b""
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE)
        query = "&".join(filter(None, [query, *(f"channel={channel}" for channel in sorted(self.log.channels))]))
        header = ""
        if last is not None and by == "since":
            query += f"&since={last}"
        elif last is not None:
            header = f"Last-Event-ID: {last}\r\n"
        header += "".join(f"{key}: {value}\r\n" for key, value in headers.items())
        request = f"GET {path}?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n{header}\r\n"
        self._socket.sendall(request.encode())

    @property
    def last(self) -> int | None:
        """What a browser would present now."""
        return int(self.parser.id) if self.parser.id else self.log.presented

    @property
    def texts(self) -> list[str]:
        return [one.uuid for one in self.log.arrivals if one.uuid is not None]

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Read until ``condition()`` is true; fail at the deadline and where the connection ends before."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert not self.ended, f"the body ended before: {what}; {self.log}"
            assert not self.cut, f"the connection ended before: {what}; {self.log}"
            # Looked at each time: a server that repeats itself for ever never lets the socket time out.
            left = deadline - time.monotonic()
            assert left > 0, f"not within {DEADLINE} s: {what}; {self.log}"
            self._socket.settimeout(left)
            try:
                self._take(self._socket.recv(65536))
            except ConnectionError:
                self.cut = True
            except TimeoutError:
                continue

    def drain(self) -> Client:
        """Read what is there already: whatever comes after this call was sent later, or a moment before."""
        self._socket.settimeout(0)
        with suppress(BlockingIOError):
            while not (self.ended or self.cut):
                self._take(self._socket.recv(65536))
        return self

    def opened(self) -> Client:
        """Wait until the stream has said where it begins."""
        self.until(lambda: self.status and (self.status != 200 or self.parser.id), "the stream opens")
        assert self.status == 200, (self.status, self.body)
        self.log.opened = self.log.opened or next(ticks)
        return self

    def has(self, *texts: str) -> Client:
        """Wait until all of ``texts`` have come."""
        self.until(lambda: set(texts) <= set(self.texts), f"{texts} arrive")
        return self

    def over(self) -> Client:
        """Wait until the connection ended, one way or the other."""
        self.until(lambda: self.ended or self.cut, "the connection ends")
        return self

    def settle(self) -> Client:
        """Write down that everything published so far should have come."""
        self.log.settled = next(ticks)
        return self

    def leave(self) -> None:
        """Close as a browser does."""
        self._socket.close()

    def vanish(self) -> None:
        """Close with a reset of the TCP connection."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _take(self, data: bytes) -> None:
        if not data:
            self.cut = not self.ended
        self._rest += data
        if not self.status:
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                return
            first, *lines = head.decode("latin-1").split("\r\n")
            self.headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
            self.status, self._rest = int(first.split()[1]), rest
        if ("transfer-encoding", "chunked") in self.headers:
            for chunk in self._chunks():
                self._body(chunk)
        else:
            length = int(dict(self.headers).get("content-length", -1))  # without one, the body ends as the connection
            self._body(self._rest)
            self._rest = b""
            self.ended = len(self.body) == length or (length == -1 and not data)
            self.cut = self.cut and not self.ended

    def _chunks(self) -> Iterator[bytes]:
        while True:
            size, end, rest = self._rest.partition(b"\r\n")
            if not end or len(rest) < int(size, 16) + 2:
                return
            length = int(size, 16)
            assert rest[length : length + 2] == b"\r\n"
            self._rest = rest[length + 2 :]
            if not length:
                self.ended = True
                return
            yield rest[:length]

    def _body(self, data: bytes) -> None:
        self.body += data
        for block in self.parser.feed(data) if self.status == 200 else ():
            self.blocks.append(block)
            if block.id:
                self.log.arrivals.append(arrival(block))


@contextmanager
def connect(server: Server, channels: Iterable[str], last: int | None = None, **options: str) -> Iterator[Client]:
    """An open stream, left at the end of the block."""
    client = Client(server, channels, last, **options)
    try:
        yield client.opened()
    finally:
        client.leave()
