"""Many browsers in one thread: each comes back with its last event ID for as long as its crowd is there.

Written for the number of deliveries, so it reads only what django_sse writes: LF alone, one ``data`` line. The text of
an event is its name up to the first space; what follows is ballast.
"""

from __future__ import annotations

import asyncio
import random
import re
import threading
import time
from contextlib import contextmanager
from sys import intern
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.checker import Arrival, Connection
from tests.live.client import ticks
from tests.server import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Browser", "Crowd", "crowd"]

_REASON: Final = re.compile(rb'"reason":"(\w+)"')
_IMPATIENCE: Final = 0.2
"""Seconds between two attempts to reach any server. A browser waits for its ``retry:``, see ``Crowd.patience``."""


class _Wire(asyncio.Protocol):
    """One HTTP response whose body is chunked or ends with the connection."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._rest = b""
        self._body = b""
        self._chunked = False
        self._length: int | None = None
        self.log: Connection | None = None
        self.status = 0
        self.headers = b""
        self.ended = False
        """As HTTP says a body ends."""
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.over.done():
            self.over.set_result(None)

    def data_received(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        if not self.status:
            head, end, rest = buffer.partition(b"\r\n\r\n")
            if not end:
                self._rest = buffer
                return
            self.headers = head.lower()
            self.status, self._chunked, buffer = int(head[9:12]), b"transfer-encoding: chunked" in self.headers, rest
            if length := re.search(rb"content-length: (\d+)", self.headers):
                self._length = int(length[1])
            if self.status != 200:
                self._browser.refusals.append(self.status)
                self.transport.close()
        if self.status == 200:
            self._rest = self._chunks(buffer) if self._chunked else self._plain(buffer)

    def _plain(self, buffer: bytes) -> bytes:
        self._read(buffer)
        if self._length is not None:
            self._length -= len(buffer)
            if not self._length:
                self.ended = True
                self.transport.close()
        return b""

    def _chunks(self, buffer: bytes) -> bytes:
        at = 0
        while (end := buffer.find(b"\r\n", at)) >= 0:
            size = int(buffer[at:end], 16)
            if len(buffer) < end + size + 4:
                break
            if not size:
                self.ended = True
                self.transport.close()
                return b""
            self._read(buffer[end + 2 : end + 2 + size])
            at = end + size + 4
        return buffer[at:]

    def _read(self, data: bytes) -> None:
        *blocks, self._body = (self._body + data).split(b"\n\n")
        if blocks:
            self._browser.read(blocks)


class End(NamedTuple):
    """Of a connection that was live."""

    age: float
    """Seconds."""
    clean: bool
    """As HTTP says a body ends."""


class Browser:
    """One EventSource."""

    def __init__(self, crowd: Crowd, name: str, channels: frozenset[str], last: int | None = None) -> None:
        self._crowd = crowd
        self.name = name
        self.channels = channels
        self.last = last
        self.connections: list[Connection] = []
        self.seen = 0
        """Events that came."""
        self.arrived: set[str] = set()
        """The texts of the newest connection."""
        self.refusals: list[int] = []
        """Statuses other than 200: each would have ended an EventSource."""
        self.gaps: list[float] = []
        """Seconds from the end of a connection to the first id of the next."""
        self.ends: list[End] = []
        self.resets: list[str] = []
        self.live = False
        self.retry = 3.0
        self.away = False
        """Has left, and comes back when this is taken back."""
        self._lost_at = 0.0
        self._wire: _Wire | None = None

    async def run(self) -> None:
        while True:
            if self.away:
                await asyncio.sleep(0.02)
                continue
            await self._connect(random.choice(self._crowd.ports))
            self.live = False
            await asyncio.sleep(self.retry if self._crowd.patience else random.uniform(0, 2 * _IMPATIENCE))

    async def _connect(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._crowd.connect_timeout):
                _, wire = await loop.create_connection(lambda: _Wire(self), "127.0.0.1", port)
        except OSError:
            return
        self._wire = wire
        query = "&".join(f"channel={channel}" for channel in sorted(self.channels))
        last = "" if self.last is None else f"Last-Event-ID: {self.last}\r\n"
        wire.log = Connection(self.name, self.channels, self.last)
        self.connections.append(wire.log)
        self.arrived = set()
        request = f"GET {self._crowd.path}?{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n"
        wire.transport.write(f"{request}{self._crowd.headers}{last}\r\n".encode())
        try:
            await wire.over
        finally:
            wire.transport.abort()
        if self.live:
            self._lost_at = time.monotonic()
            self.ends.append(End(self._lost_at - wire.log.opened / 1e9, wire.ended))

    def leave(self) -> None:
        """Close; called in the crowd's thread."""
        self.away = True
        if self._wire:
            self._wire.transport.abort()

    def read(self, blocks: Sequence[bytes]) -> None:
        log = self.connections[-1]
        tick = next(ticks)
        for block in blocks:
            id_, type_, text = None, b"", None
            for line in block.split(b"\n"):
                name, _, value = line.partition(b": ")
                if name == b"id":
                    id_ = int(value)
                elif name == b"data":
                    text = value
                elif name == b"event":
                    type_ = value
                elif name == b"retry":
                    self.retry = int(value) / 1000
                else:
                    assert name == b":", f"{block!r} is not what django_sse writes"
            if id_ is None:
                continue
            if not self.live:
                self._opened(log, tick)
            if type_ == b"sse.reset":
                reason = _REASON.search(text or b"")
                self.resets.append(reason[1].decode() if reason else "?")
                log.arrivals.append(Arrival(id_, reset=self.resets[-1], tick=tick))
            elif text is None:
                log.arrivals.append(Arrival(id_, tick=tick))
            else:
                uuid = intern(text.partition(b" ")[0].strip(b'"').decode())
                self.arrived.add(uuid)
                self.seen += 1
                log.arrivals.append(Arrival(id_, uuid, tick=tick))
            self.last = id_

    def _opened(self, log: Connection, tick: int) -> None:
        self.live = True
        log.opened = tick
        if self._lost_at:
            self.gaps.append(time.monotonic() - self._lost_at)


class Crowd:
    """Browsers that choose any of ``ports`` each time they connect; the test may change the list at any time."""

    def __init__(self, ports: list[int], *, patience: bool = False, path: str = "/events/", headers: str = "") -> None:
        self.ports = ports
        self.patience = patience
        """Whether they wait for their ``retry:``, as browsers do, before they come back."""
        self.path = path
        self.headers = headers
        self.connect_timeout = 30.0
        self.browsers: list[Browser] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._tasks: list[asyncio.Task[None]] = []

    def add(
        self, count: int, channels: Iterable[str] | Callable[[int], Iterable[str]], last: int | None = None
    ) -> None:
        """Open ``count`` more. ``channels``: of all, or a function of a browser's number."""
        made = []
        for number in range(len(self.browsers), len(self.browsers) + count):
            names = frozenset(channels(number) if callable(channels) else channels)
            made.append(Browser(self, f"browser {number}", names, last))
        self.browsers += made
        self.do(lambda: self._tasks.extend(self._loop.create_task(self._guard(browser)) for browser in made))

    async def _guard(self, browser: Browser) -> None:
        try:
            await browser.run()
        except Exception as error:
            self.broken = error
            raise

    broken: Exception | None = None

    def do(self, work: Callable[[], object]) -> None:
        """Call ``work`` in the crowd's thread, and wait for it."""

        async def call() -> None:
            work()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result(60)

    def drop(self) -> None:
        """Cut every connection at once."""
        self.do(lambda: [browser._wire.transport.abort() for browser in self.browsers if browser._wire])

    def all_live(self, seconds: float = 60.0) -> None:
        """Wait until every browser that is not away has read an id on its present connection."""
        wait_for(
            lambda: self.broken or all(browser.live for browser in self.browsers if not browser.away),
            f"all of {len(self.browsers)} streams are live, not {sum(browser.live for browser in self.browsers)}",
            seconds,
        )
        assert not self.broken, repr(self.broken)

    def beat(self, times: int = 2, seconds: float = 30.0) -> None:
        """Wait until every browser has read so many further blocks on the connection that it has."""
        before = {browser.name: len(browser.connections[-1].arrivals) for browser in self.browsers}
        wait_for(
            lambda: all(
                len(browser.connections[-1].arrivals) >= before[browser.name] + times for browser in self.browsers
            ),
            f"{times} heartbeats come on every stream",
            seconds,
        )

    def reach(self, positions: dict[str, int], seconds: float = 60.0) -> None:
        """Wait until every browser is at the last of ``positions``, by channel, that concerns it, and settle it. At
        the deadline give up: the judge says what was lost."""

        def behind() -> list[Browser]:
            return [
                browser
                for browser in self.browsers
                if not browser.away
                and (browser.last or 0) < max((positions.get(channel, 0) for channel in browser.channels), default=0)
            ]

        deadline = time.monotonic() + seconds
        while behind() and time.monotonic() < deadline and not self.broken:
            time.sleep(0.02)
        assert not self.broken, repr(self.broken)
        for browser in self.browsers:
            if not browser.away:
                assert browser.connections[-1].opened or browser.last is not None, f"{browser.name} was never live"
                browser.connections[-1].settled = next(ticks)

    @property
    def logs(self) -> list[Connection]:
        return [log for browser in self.browsers for log in browser.connections]

    @property
    def deliveries(self) -> int:
        return sum(browser.seen for browser in self.browsers)

    @property
    def gaps(self) -> list[float]:
        return [gap for browser in self.browsers for gap in browser.gaps]

    @property
    def refusals(self) -> list[int]:
        return [status for browser in self.browsers for status in browser.refusals]

    @property
    def resets(self) -> list[str]:
        return [reason for browser in self.browsers for reason in browser.resets]

    def close(self) -> None:
        async def end() -> None:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()


@contextmanager
def crowd(ports: list[int], **options: object) -> Iterator[Crowd]:
    made = Crowd(ports, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        made.close()
