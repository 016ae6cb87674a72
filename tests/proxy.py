"""A server between a client and a real server that can fail in every way a network does."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.server import free_port

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

CHUNK = 65536


class Proxy:
    """Forwards TCP to ``host:port``. Runs in a thread of its own; every method may be called from any thread."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._running = threading.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._generation = 0
        self._delay = 0.0
        self.port = free_port()
        self.accepted = 0

    @property
    def open(self) -> int:
        """Connections that are there, each counted at both of its ends."""
        return len(self._writers)

    def refuse(self) -> None:
        """Cut every connection, and accept none."""
        self._do(self._refuse())

    def accept(self) -> None:
        """Work as a proxy does."""
        self._do(self._accept())

    def go_silent(self) -> None:
        """Half-open: keep and accept connections, and carry nothing in either direction."""
        self._do(self._set(False))

    def slow(self, seconds: float = 1.0) -> None:
        """Carry every byte so much later, in either direction; what comes meanwhile goes with it."""
        self._do(self._slow(seconds))

    def strand(self) -> None:
        """Half-open, as when a load balancer loses its table: keep the connections that are there, swallow what they
        say, and work for new ones."""
        self._do(self._strand())

    def cut(self) -> None:
        """Cut every connection, and accept new ones."""
        self._do(self._cut())

    async def _accept(self) -> None:
        self._flowing.set()
        self._delay = 0.0
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _refuse(self) -> None:
        if self._server:
            # asyncio loses the transport of a connection that it is accepting when its server is closed.
            for listening in self._server.sockets:
                self._loop.remove_reader(listening.fileno())
            accepting = [task for task in asyncio.all_tasks() if "_accept_connection2" in repr(task.get_coro())]
            await asyncio.gather(*accepting)
            self._server.close()
            self._server = None
        await self._cut()

    async def _set(self, flowing: bool) -> None:
        (self._flowing.set if flowing else self._flowing.clear)()

    async def _slow(self, seconds: float) -> None:
        self._delay = seconds

    async def _strand(self) -> None:
        self._generation += 1

    async def _cut(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.add(writer)
        try:
            await self._flowing.wait()
            there_reader, there_writer = await asyncio.open_connection(*self._target)
            self._writers.add(there_writer)
            try:
                await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
            finally:
                self._writers.discard(there_writer)
                there_writer.transport.abort()
        except OSError:
            pass
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        generation = self._generation
        while data := await reader.read(CHUNK):
            await self._flowing.wait()
            await asyncio.sleep(self._delay)
            if generation != self._generation:
                continue
            writer.write(data)
            await writer.drain()
        writer.transport.abort()

    def _do(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def run(self) -> None:
        """Work until ``stop``."""
        asyncio.run(self._main())

    def stop(self) -> None:
        """Cut every connection and end ``run``."""
        self.refuse()
        self._loop.call_soon_threadsafe(self._stopped.set)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        await self._accept()
        self._running.set()
        await self._stopped.wait()


@contextmanager
def proxy_to(host: str, port: int) -> Iterator[Proxy]:
    """Give a working proxy to ``host:port``."""
    proxy = Proxy(host, port)
    thread = threading.Thread(target=proxy.run, daemon=True)
    thread.start()
    assert proxy._running.wait(10)
    try:
        yield proxy
    finally:
        proxy.stop()
        thread.join(10)
