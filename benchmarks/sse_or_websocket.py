"""The same events over SSE and over WebSockets, one after the other: ``python -m benchmarks.sse_or_websocket``

200 clients in this process, uvicorn, an event each 50 ms. Latency is from the publishing view to a client, by one
clock; CPU is the server's, for each delivery; memory is what it grew by for each client, before the first event.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import TYPE_CHECKING

from websockets.asyncio.client import connect

from benchmarks.service import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.service import Service

CLIENTS = 200
EVENTS = 100
PAUSE = 0.05
WAYS = {
    "SSE, django_sse": ("memory", "log", "sse"),
    "WebSocket, Channels, in-memory layer": ("memory", "group", "group"),
    "WebSocket, Channels, Redis layer": ("redis", "group", "group"),
    "WebSocket, EventConsumer of django_sse": ("memory", "log", "log"),
}


async def _sse(port: int, opened: asyncio.Event) -> AsyncIterator[dict[str, float]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /events/?channel=public.measured HTTP/1.1\r\nHost: localhost\r\n\r\n")
    while line := await reader.readline():
        if line.startswith(b"id:"):
            opened.set()
        if line.startswith(b"data:"):
            yield json.loads(line[5:])


async def _websocket(port: int, path: str, opened: asyncio.Event) -> AsyncIterator[dict[str, float]]:
    async with connect(f"ws://127.0.0.1:{port}/{path}/", compression=None) as socket:
        if path == "group":
            opened.set()
        async for message in socket:
            data = json.loads(message)
            opened.set()
            if path == "group":
                yield data
            elif "data" in data:
                yield json.loads(data["data"])


async def _client(service: Service, way: str, opened: asyncio.Event, latencies: list[float]) -> None:
    events = _sse(service.port, opened) if way == "sse" else _websocket(service.port, way, opened)
    count = 0
    async for event in events:
        latencies.append(time.monotonic() - event["at"])
        count += 1
        if count == EVENTS:
            return


async def _measure(title: str, service: Service, publish: str, way: str) -> None:
    # What the first client costs is not what each costs.
    warm = asyncio.Event()
    first = asyncio.create_task(_client(service, way, warm, []))
    await warm.wait()
    before = service.process.memory_info().rss
    latencies: list[float] = []
    signs = [asyncio.Event() for _ in range(CLIENTS)]
    clients = [asyncio.create_task(_client(service, way, sign, latencies)) for sign in signs]
    await asyncio.gather(*(sign.wait() for sign in signs))
    await asyncio.sleep(1)
    memory = (service.process.memory_info().rss - before) / CLIENTS / 1000
    times = service.process.cpu_times()
    for number in range(EVENTS):
        await asyncio.to_thread(service.post, f"/publish/{publish}/", json.dumps({"number": number}).encode())
        await asyncio.sleep(PAUSE)
    _, waiting = await asyncio.wait(clients, timeout=20)
    after = service.process.cpu_times()
    cpu = (after.user + after.system - times.user - times.system) / max(1, len(latencies))
    for task in [*waiting, first]:
        task.cancel()
    latencies.sort()
    sys.stdout.write(
        f"{title:<40} delivered {len(latencies) / EVENTS / CLIENTS:7.2%}   latency median "
        f"{statistics.median(latencies) * 1000:6.1f} ms, 99 % {latencies[int(len(latencies) * 0.99)] * 1000:6.1f} ms   "
        f"CPU {cpu * 1e6:5.0f} µs   memory {memory:5.1f} kB\n"
    )
    sys.stdout.flush()


def main() -> None:
    for title, (layer, publish, way) in WAYS.items():
        with serve("uvicorn", layer) as service:
            asyncio.run(_measure(title, service, publish, way))


if __name__ == "__main__":
    main()
