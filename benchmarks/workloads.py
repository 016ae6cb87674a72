"""The workloads of the fan-out benchmark: what is asked of a server, and the figures that come of it."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import psycopg

from benchmarks.load import Crowd
from benchmarks.targets import APPLICATION_NAME, HOST, Publisher, Running, running

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.targets import Target

__all__ = [
    "BEHIND",
    "IDLE",
    "REPLAYERS",
    "STORM",
    "Backends",
    "Row",
    "Run",
    "everything",
    "idle",
    "many",
    "replay",
    "storm",
]

BURST: Final = 200
BURSTS: Final = 3
STEADY: Final = 100
PAUSE: Final = 0.05
WARM: Final = 5
IDLE: Final = (5000, 10_000)
STORM: Final = 2000
REPLAYERS: Final = 500
BEHIND: Final = 100
SETTLE: Final = 1.5

Row = dict[str, float]


class Backends:
    """Connections that the server under test has to PostgreSQL."""

    def __init__(self, port: int) -> None:
        self._connection = psycopg.connect(host=HOST, port=port, user="postgres", dbname="postgres", autocommit=True)

    def count(self) -> int:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
        row = self._connection.execute(query, [APPLICATION_NAME]).fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        self._connection.close()


class Numbers:
    """Numbers of events, which never come twice in a run."""

    def __init__(self) -> None:
        self.next = 1

    def take(self, count: int) -> int:
        first = self.next
        self.next += count
        return first


class Run:
    """What every measurement needs."""

    def __init__(self, publisher: Publisher, backends: Backends, env: dict[str, str], streams: int) -> None:
        self.publisher = publisher
        self.backends = backends
        self.env = env
        self.streams = streams
        self.numbers = Numbers()

    def crowd(self, server: Running, path: Callable[[int], str] | None = None) -> Crowd:
        cookies = self.publisher.cookies if server.target.login else []
        return Crowd(server.port, path or (lambda number: server.target.path), cookies, server.target.stream)


async def fan_out(run: Run, server: Running, crowd: Crowd) -> Row:
    """Open the streams, which are idle for a while, then ``fast``, then ``steady``."""
    await crowd.open(WARM)  # what the first streams cost is not what each costs
    await _deliver(run, server, crowd, BURST)
    await asyncio.sleep(0.5)
    memory, threads, backends, cpu = server.memory(), server.threads(), run.backends.count(), server.cpu()
    seconds = await crowd.open(run.streams - WARM)
    opened = run.streams - WARM
    row = {"opens/s": opened / seconds, "open_cpu_ms": (server.cpu() - cpu) / opened * 1e3}
    await asyncio.sleep(SETTLE)
    row["idle"] = (server.memory() - memory) / opened
    row["threads"] = (server.threads() - threads) / opened
    row["backends"] = (run.backends.count() - backends) / opened
    row.update(missing=0, repeats=0, inversions=0)
    for label, times, count in (("fast", BURSTS, BURST), ("steady", STEADY, 1)):
        for name, figure in (await _workload(run, server, crowd, times, count)).items():
            if name in ("missing", "repeats", "inversions"):
                row[name] += figure
            else:
                row[f"{label}_{name}"] = figure
    return row


async def _workload(run: Run, server: Running, crowd: Crowd, times: int, count: int) -> Row:
    crowd.forget()
    cpu = server.cpu()
    first = run.numbers.next
    began = time.monotonic()
    for number in range(times):
        await server.publish(run.numbers.take(count), count)
        if count > 1:
            await crowd.wait(len(crowd.streams) * count * (number + 1))
        else:
            await asyncio.sleep(max(0, began + (number + 1) * PAUSE - time.monotonic()))
    await crowd.wait(len(crowd.streams) * count * times)
    spent = server.cpu() - cpu
    report = crowd.report(first, times * count)
    return {
        "cpu": spent / max(1, report.delivered) * 1e6,
        "p50": report.p50,
        "p99": report.p99,
        "missing": report.missing,
        "repeats": report.repeats,
        "inversions": report.inversions,
    }


async def _deliver(run: Run, server: Running, crowd: Crowd, count: int) -> None:
    crowd.forget()
    await server.publish(run.numbers.take(count), count)
    await crowd.wait(len(crowd.streams) * count)


async def everything(run: Run, target: Target) -> Row:
    async with running(target, run.publisher, run.env) as server:
        crowd = run.crowd(server)
        try:
            return await fan_out(run, server, crowd)
        finally:
            await crowd.close()


async def many(run: Run, target: Target) -> Row:
    """As many events as streams, at once, each on another channel; beside it one event for all on one channel."""
    channels = [f"public.many.{number}" for number in range(run.streams)]
    async with running(target, run.publisher, run.env) as server:
        crowd = run.crowd(server, lambda number: f"/events/?channel={channels[number]}&channel=public.a")
        try:
            await crowd.open(run.streams)
            await _deliver(run, server, crowd, BURST)
            row: Row = {}
            for label, names in (("own", channels), ("shared", ["public.a"])):
                crowd.forget()
                cpu, count = server.cpu(), 0
                for _ in range(10):
                    each = run.streams if label == "own" else 1
                    await run.publisher.publish(run.numbers.take(each), each, names, together=True)
                    count += run.streams
                    await crowd.wait(count)
                row[f"{label}_cpu"] = (server.cpu() - cpu) / max(1, crowd.count) * 1e6
                row[f"{label}_missing"] = count - crowd.count
            return row
        finally:
            await crowd.close()


async def replay(run: Run, target: Target) -> Row:
    """Clients that were away: one by 1,000 events, then 500 by 100 each; from the ring, from the database."""
    row: Row = {}
    for label, size in (("ring", 1000), ("database", 10)):
        async with running(target, run.publisher, {**run.env, "RING_SIZE": str(size)}) as server:
            head = await _history(run, server, 1000)
            for name, clients, behind in (("one", 1, 1000), ("all", REPLAYERS, BEHIND)):
                crowd = run.crowd(server)
                try:
                    began = time.monotonic()
                    await crowd.open(clients, after=head - behind, at_once=clients)
                    live = time.monotonic()
                    await crowd.wait(clients * behind)
                    done = time.monotonic()
                    row[f"{label}_{name}_total"] = done - began
                    row[f"{label}_{name}_after"] = done - live
                    row[f"{label}_{name}_missing"] = clients * behind - crowd.count
                finally:
                    await crowd.close()
    return row


async def _history(run: Run, server: Running, count: int) -> int:
    """Publish while one client listens, so that the ring has it all. Return the position of the last event."""
    crowd = run.crowd(server)
    try:
        await crowd.open(1)
        asked = run.numbers.take(count)
        head = (await run.publisher.publish(asked, count, ["public.a"], together=True))["head"]
        await crowd.wait(count)
        return int(head)
    finally:
        await crowd.close()


async def storm(run: Run, target: Target) -> Row:
    """2,000 clients come back at once, each 100 behind, while somebody publishes elsewhere."""
    async with running(target, run.publisher, run.env) as server:
        head = await _history(run, server, BEHIND)
        crowd = run.crowd(server)
        took: list[float] = []
        most = [0]

        async def publish() -> None:
            while True:
                answer = await run.publisher.publish(run.numbers.take(1), 1, ["public.other"], together=False)
                took.append(answer["seconds"])
                await asyncio.sleep(PAUSE)

        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.01):
                most[0] = max(most[0], run.backends.count())

        watchers = [asyncio.create_task(publish()), asyncio.create_task(asyncio.to_thread(watch))]
        try:
            live = await crowd.open(STORM, after=head - BEHIND, at_once=STORM)
            await crowd.wait(STORM * BEHIND)
            took.sort()
            return {
                "live": live,
                "backends": most[0],
                "send_p99": took[int(len(took) * 0.99)] * 1000,
                "missing": STORM * BEHIND - crowd.count,
            }
        finally:
            over.set()
            watchers[0].cancel()
            for watcher in watchers:
                with suppress(asyncio.CancelledError):
                    await watcher
            await crowd.close()


async def idle(run: Run, target: Target) -> Row:
    """Thousands of streams to which nothing happens."""
    row: Row = {}
    async with running(target, run.publisher, run.env) as server:
        crowd = run.crowd(server)
        try:
            await crowd.open(WARM)
            await asyncio.sleep(SETTLE)
            memory, threads = server.memory(), server.threads()
            for count in IDLE:
                await crowd.open(count - len(crowd.streams), deadline=300)
                await asyncio.sleep(SETTLE)
                cpu, began = server.cpu(), time.monotonic()
                await asyncio.sleep(5)
                row[f"idle_{count}_bytes"] = (server.memory() - memory) / (count - WARM)
                row[f"idle_{count}_cpu"] = (server.cpu() - cpu) / (time.monotonic() - began)
                row[f"idle_{count}_threads"] = server.threads() - threads
                row[f"idle_{count}_backends"] = run.backends.count()
        finally:
            await crowd.close()
    return row
