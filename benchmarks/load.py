"""The clients of the fan-out benchmark: raw uvloop protocols that read event streams properly and cheaply.

Each event's data begins with ``{"t": stamp, "n": number``: the monotonic clock of this machine when it was published,
in nanoseconds, and its place in the run. From these come latency, and what is missing, repeated or out of order.
"""

from __future__ import annotations

import asyncio
import re
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, cast

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Crowd", "Report", "Stream", "WebSocket"]

Stamps = list[tuple[int, int]]

_EVENT: Final = re.compile(rb'(?:^|[\r\n])data: ?\{"t": ?(\d+), ?"n": ?(\d+)')
_END: Final = re.compile(rb"\n\n|\r\n\r\n")
_MEMO: Final = 512
"""Parsed blocks kept: the streams of one channel get the same bytes, and it is the server that is measured."""


class Report(NamedTuple):
    """What a crowd saw of one workload."""

    delivered: int
    missing: int
    repeats: int
    inversions: int
    p50: float
    """Milliseconds from the stamp to the client, the median."""
    p99: float


class Crowd:
    """Many streams of one server, and what they got since ``forget``."""

    def __init__(
        self, port: int, path: Callable[[int], str], cookies: list[str], stream: type[Stream] | None = None
    ) -> None:
        self.port = port
        self.streams: list[Stream] = []
        self.count = 0
        self.last = 0.0
        self._path = path
        self._cookies = cookies
        self._memo: dict[bytes, Stamps] = {}
        self._stream = stream or Stream

    async def open(self, count: int, *, after: int | None = None, at_once: int = 20, deadline: float = 60) -> float:
        """Open ``count`` more streams, ``at_once`` at a time; return the seconds until all are live.

        ``after``: the position that each presents as its last event ID. Raises ``TimeoutError``.
        """
        began = time.monotonic()
        turns = asyncio.Semaphore(at_once)
        loop = asyncio.get_running_loop()
        first = len(self.streams)

        async def one(number: int) -> None:
            cookie = self._cookies[number % len(self._cookies)] if self._cookies else ""
            async with turns:
                stream = self._stream(self, self._path(number), cookie, after, loop.create_future())
                self.streams.append(stream)
                await loop.create_connection(lambda: stream, "127.0.0.1", self.port)
                await stream.live

        await asyncio.wait_for(asyncio.gather(*(one(first + number) for number in range(count))), deadline)
        return time.monotonic() - began

    async def wait(self, expected: int, *, deadline: float = 30, silence: float = 4) -> None:
        """Wait until ``expected`` events came, or none came for ``silence`` seconds, or ``deadline`` passed."""
        self.last = began = time.monotonic()
        while self.count < expected:
            now = time.monotonic()
            if now > began + deadline or now > self.last + silence:
                return
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        for stream in self.streams:
            stream.close()
        self.streams.clear()
        await asyncio.sleep(0.2)

    def forget(self) -> None:
        self.count = 0
        for stream in self.streams:
            stream.arrived.clear()

    def report(self, first: int, count: int) -> Report:
        """Judge what came of the events ``first`` to ``first + count - 1``, which were due to every stream."""
        missing = repeats = inversions = 0
        latencies: list[int] = []
        due = set(range(first, first + count))
        for stream in self.streams:
            numbers = [number for _, stamps in stream.arrived for _, number in stamps]
            seen = set(numbers)
            missing += len(due - seen)
            repeats += len(numbers) - len(seen)
            inversions += sum(after < before for before, after in pairwise(numbers))
            latencies += [now - stamp for now, stamps in stream.arrived for stamp, _ in stamps]
        latencies.sort()
        at = (lambda share: latencies[int(len(latencies) * share)] / 1e6) if latencies else (lambda share: float("nan"))
        return Report(len(latencies), missing, repeats, inversions, at(0.5), at(0.99))

    def parse(self, block: bytes) -> Stamps:
        found = self._memo.get(block)
        if found is None:
            if len(self._memo) >= _MEMO:
                self._memo.clear()
            found = [(int(stamp), int(number)) for stamp, number in _EVENT.findall(block)]
            self._memo[block] = found
        return found


class Stream(asyncio.Protocol):
    """One client. ``live`` is done with the first byte of the body, and fails when the server refuses."""

    headers: tuple[str, ...] = ("Accept: text/event-stream",)
    status = b" 200 "

    def __init__(self, crowd: Crowd, path: str, cookie: str, after: int | None, live: asyncio.Future[None]) -> None:
        self.live = live
        self.arrived: list[tuple[int, Stamps]] = []
        self._crowd = crowd
        self._path, self._cookie, self._after = path, cookie, after
        self._transport: asyncio.Transport | None = None
        self._in_body = self._chunked = False
        self._raw = self._text = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is none by class
        self._transport = transport
        lines = [f"GET {self._path} HTTP/1.1", "Host: localhost", *self.headers]
        if self._cookie:
            lines.append(f"Cookie: sessionid={self._cookie}")
        if self._after is not None:
            lines.append(f"Last-Event-ID: {self._after}")
        transport.write("\r\n".join([*lines, "", ""]).encode())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self._in_body:
            data = self._head(self._raw + data)
            if not self._in_body:
                self._raw = data
                return
            self._raw = b""
        body = self._unchunk(data) if self._chunked else data
        if not body:
            return
        if not self.live.done():
            self.live.set_result(None)
        text = self._text + body if self._text else body
        if text.endswith((b"\n\n", b"\r\n\r\n")):
            whole, self._text = text, b""
        else:
            end = max((match.end() for match in _END.finditer(text)), default=0)
            whole, self._text = text[:end], text[end:]
        self._take(whole, now)

    def _take(self, whole: bytes, now: int) -> None:
        if stamps := self._crowd.parse(whole):
            self.arrived.append((now, stamps))
            self._crowd.count += len(stamps)
            self._crowd.last = now / 1e9

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.live.done():
            self.live.set_exception(ConnectionError(f"The server closed before its first byte: {exc!r}"))

    def close(self) -> None:
        if not self.live.done():
            self.live.cancel()
        if self._transport:
            self._transport.abort()

    def _head(self, data: bytes) -> bytes:
        head, separator, body = data.partition(b"\r\n\r\n")
        if not separator:
            return data
        if self.status not in head.split(b"\r\n")[0] + b" ":
            if not self.live.done():
                self.live.set_exception(ConnectionError(head.decode("latin-1") + body[:200].decode("latin-1")))
            self.close()
            return b""
        self._in_body = True
        self._chunked = b"transfer-encoding: chunked" in head.lower()
        return body

    def _unchunk(self, data: bytes) -> bytes:
        """Return the bytes of the chunks that are whole, and keep the rest (RFC 9112, 7.1)."""
        raw = self._raw + data if self._raw else data
        parts = []
        at = 0
        while (line := raw.find(b"\r\n", at)) >= 0:
            size = int(raw[at:line].partition(b";")[0], 16)
            end = line + 2 + size
            if len(raw) < end + 2:
                break
            parts.append(raw[line + 2 : end])
            at = end + 2
        self._raw = raw[at:]
        return parts[0] if len(parts) == 1 else b"".join(parts)


class WebSocket(Stream):
    """A client of RFC 6455 that only reads: the events are text messages of JSON."""

    headers = (
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    status = b" 101 "

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        raw = self._raw + data
        if not self._in_body:
            raw = self._head(raw)
            if not self._in_body:
                self._raw = raw
                return
            if not self.live.done():
                self.live.set_result(None)
        at = 0
        while len(raw) >= at + 2:  # a server does not mask (5.1); the length is in 7, 16 or 64 bits (5.2)
            size, start = raw[at + 1], at + 2
            if size >= 126:
                width = 2 if size == 126 else 8
                size, start = int.from_bytes(raw[start : start + width], "big"), start + width
            if len(raw) < start + size:
                break
            if raw[at] & 15 == 1:
                self._take(b"data: " + raw[start : start + size], now)
            at = start + size
        self._raw = raw[at:]
