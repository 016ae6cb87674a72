"""The floor: uvloop's ``transport.write`` of bytes that were encoded once, and nothing else."""

from __future__ import annotations

import asyncio
import sys
from typing import cast
from urllib.parse import parse_qs

import uvloop

from benchmarks.servers.event import data

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n:\n\n"
_streams: set[asyncio.Transport] = set()


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def data_received(self, data_: bytes) -> None:
        target = data_.split(b" ", 2)[1].decode()
        path, _, query = target.partition("?")
        if path == "/events/":
            self._transport.write(_HEAD)
            _streams.add(self._transport)
            return
        asked = parse_qs(query)
        first, count = int(asked["first"][0]), int(asked["count"][0])
        for number in range(first, first + count):
            frame = f"id: {number}\ndata: {data(number)}\n\n".encode()
            for stream in _streams:
                stream.write(frame)
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        _streams.discard(self._transport)


async def _main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main(int(sys.argv[1])))
