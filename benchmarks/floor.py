"""The floor of ``benchmarks.fanout``: a uvloop server that writes bytes, made once, to every connection."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, ClassVar

import uvloop

PAD = "x" * 150


class Stream(asyncio.Protocol):
    open: ClassVar[set[Any]] = set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"PUBLISH"):
            _, count, stamp = data.split()
            frames = [f'id: {n}\ndata: {{"t":{int(stamp)},"p":"{PAD}"}}\n\n'.encode() for n in range(int(count))]
            for frame in frames:
                for transport in self.open:
                    transport.write(frame)
            self.transport.close()
            return
        self.open.add(self.transport)
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1000\n\nid: 0\n\n")

    def connection_lost(self, error: Exception | None) -> None:
        self.open.discard(self.transport)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Stream, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
