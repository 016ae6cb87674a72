"""What a delivery costs: logged-in streams on one channel, events from PostgreSQL, beside a bare ``transport.write``.

The floor is a uvloop server that writes the same number of bytes, made once, to each connection: no log, no order, no
framing, nobody asked. Workloads: ``fast``, 200 events at once, three times; ``steady``, 20 events a second. CPU is that
of the server's processes, latency from a stamp in the data, memory what the server's processes gained. The client runs
beside the server on the same machine. The targets take turns, each figure is the median of the rounds.

    python -m benchmarks.fanout [--streams 1000] [--rounds 3] [--only uvicorn,daphne]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

import django
import psutil
import uvloop
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from benchmarks.database import database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

APPLICATION = "tests.asgi:application"
SERVERS = {
    "floor": ["benchmarks.floor"],
    "uvicorn": ["uvicorn", "--log-level=warning", "--no-access-log", APPLICATION, "--port"],
    "daphne": ["daphne", "-v0", APPLICATION, "-p"],
    "granian": ["granian", "--interface=asgi", "--backpressure=20000", "--no-access-log", APPLICATION, "--port"],
}
PAD = "x" * 150
STEADY = 100
BURSTS, BURST = 3, 200
STAMP = b'"t":'


class Client(asyncio.Protocol):
    """One stream. It counts stamps, wherever the chunks are cut."""

    def __init__(self, crowd: Crowd, cookie: str) -> None:
        self._crowd = crowd
        self._cookie = cookie
        self._rest = b""
        self.live = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        head = "GET /events/?channel=public.a HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n"
        transport.write(f"{head}Cookie: sessionid={self._cookie}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        if not self.live.done() and b"\nid: " in data:
            self.live.set_result(None)
        now, at = time.monotonic_ns(), 0
        while (found := data.find(STAMP, at)) >= 0 and (end := data.find(b",", found)) >= 0:
            self._crowd.latencies.append(now - int(data[found + len(STAMP) : end]))
            at = end
        self._rest = data[max(at, len(data) - 40) :]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.live.done():
            self.live.set_exception(error or EOFError("the stream ended before it began"))


class Crowd:
    """All streams of one target, and the processes of its server."""

    def __init__(self, port: int, process: psutil.Process) -> None:
        self.port = port
        self.processes = [process, *process.children(recursive=True)]
        self.latencies: list[int] = []
        self.clients: list[Client] = []

    def cpu(self) -> float:
        return sum(sum(process.cpu_times()[:2]) for process in self.processes)

    def memory(self) -> int:
        return sum(process.memory_full_info().uss for process in self.processes)

    async def open(self, streams: int, cookies: list[str]) -> dict[str, float]:
        loop, turns = asyncio.get_running_loop(), asyncio.Semaphore(20)
        cpu, memory = self.cpu(), self.memory()

        async def one(number: int) -> None:
            async with turns:
                cookie = cookies[number % len(cookies)]
                _, client = await loop.create_connection(lambda: Client(self, cookie), "127.0.0.1", self.port)
                self.clients.append(client)
                await asyncio.wait_for(client.live, 60)

        await asyncio.gather(*map(one, range(streams)))
        opened = (self.cpu() - cpu) / streams
        await asyncio.sleep(1.5)  # threads of the requests end, their memory is given back
        return {
            "open ms": opened * 1e3,
            "bytes a stream": (self.memory() - memory) / streams,
            "threads": sum(process.num_threads() for process in self.processes),
        }

    async def run(self, label: str, times: int, pause: float, publish: Callable[[], Any], due: int) -> dict[str, float]:
        self.latencies.clear()
        cpu = self.cpu()
        for _ in range(times):
            await publish()
            await asyncio.sleep(pause)
        async with asyncio.timeout(30):
            while len(self.latencies) < due:  # noqa: ASYNC110 - a look now and then costs the client least
                await asyncio.sleep(0.02)
        sorted_ = sorted(self.latencies)
        assert len(sorted_) == due, f"{len(sorted_)} deliveries of {due}"
        return {
            f"{label} us": (self.cpu() - cpu) / due * 1e6,
            f"{label} p50": median(sorted_) / 1e6,
            f"{label} p99": sorted_[int(due * 0.99)] / 1e6,
        }


@contextmanager
def served(target: str) -> Iterator[Crowd]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    command = [sys.executable, "-m", *SERVERS[target], str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + 30
            while time.monotonic() < end:
                with socket.socket() as one:
                    if one.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)
            time.sleep(1)
            yield Crowd(port, psutil.Process(server.pid))
        finally:
            for process in psutil.Process(server.pid).children(recursive=True):
                process.kill()
            server.kill()


async def measure(target: str, crowd: Crowd, streams: int, cookies: list[str]) -> dict[str, float]:
    from django_sse import asend_events

    async def publish(count: int) -> None:
        if target == "floor":
            reader, writer = await asyncio.open_connection("127.0.0.1", crowd.port)
            writer.write(f"PUBLISH {count} {time.monotonic_ns()}\n".encode())
            await reader.read()
            writer.close()
        else:
            await asend_events([("public.a", None, {"t": time.monotonic_ns(), "p": PAD}) for _ in range(count)])

    found = await crowd.open(streams, cookies)
    found |= await crowd.run("fast", BURSTS, 1.5, lambda: publish(BURST), streams * BURST * BURSTS)
    found |= await crowd.run("steady", STEADY, 0.05, lambda: publish(1), streams * STEADY)
    return found


def logged_in(count: int) -> list[str]:
    """Make so many users, and return the keys of their sessions."""
    from django.contrib.auth.models import User
    from django.test import Client as Browser

    keys = []
    for number in range(count):
        browser = Browser()
        browser.force_login(User.objects.create_user(f"user{number}"))
        keys.append(browser.cookies["sessionid"].value)
    return keys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(SERVERS))
    options = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    targets = options.only.split(",")
    found: dict[str, list[dict[str, float]]] = {target: [] for target in targets}
    with database(settings.DATABASES["default"]["NAME"]):
        call_command("migrate", verbosity=0)
        cookies = logged_in(options.streams // 10 + 1)
        for _ in range(options.rounds):
            for target in targets:
                with served(target) as crowd:
                    found[target].append(uvloop.run(measure(target, crowd, options.streams, cookies)))
        connection.close()
    names = list(next(iter(found.values()))[0])
    sys.stdout.write(f"| {options.streams} streams | {' | '.join(names)} |\n|---|{'---|' * len(names)}\n")
    for target, rounds in found.items():
        cells = []
        for name in names:
            values = [one[name] for one in rounds]
            cells.append(f"{median(values):,.4g} ({min(values):,.4g} to {max(values):,.4g})")
        sys.stdout.write(f"| {target} | {' | '.join(cells)} |\n")


if __name__ == "__main__":
    main()
