"""One process, many streams: what a delivery costs the server, and how late it is, beside what else one could pick.

    python -m benchmarks.fanout [--rounds 3] [--streams 1000] [--only floor,uvicorn] [--write]

Workloads of every target: ``idle`` (bytes, threads and database connections a stream), ``fast`` (200 events at once)
and ``steady`` (20 events/s); of django_sse also ``many`` (each stream on its own channel), ``replay`` and ``storm``.
Clients, servers, publisher, Redis and a PostgreSQL of the run's own share the machine; CPU is the server process's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import psycopg
import uvloop

from benchmarks.load import Crowd
from benchmarks.targets import APPLICATION_NAME, FLOOR, HOST, TARGETS, UVICORN, Publisher, Running, running
from tests.faults.backing import own_postgresql

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from benchmarks.targets import Target

BURST: Final = 200
BURSTS: Final = 3
STEADY: Final = 100
PAUSE: Final = 0.05
WARM: Final = 5
STORM: Final = 2000
REPLAYERS: Final = 500
BEHIND: Final = 100
SETTLE: Final = 1.5
LIMIT: Final = 150
"""Seconds that one target may take in one round."""
BEGIN, END = "<!-- fan-out: begin -->", "<!-- fan-out: end -->"
DOCUMENT: Final = Path(__file__).parent.parent / "docs/performance.md"

HEADER: Final = (
    "| | fast: CPU | p50 / p99, ms | steady: CPU | p50 / p99, ms | idle, bytes per stream "
    "| threads / connections to PostgreSQL per stream | missing / repeated / out of order |"
)

Row = dict[str, float]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


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
        return Crowd(server.port, path or (lambda number: server.target.path), cookies)


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


async def measure(run: Run, targets: Sequence[Target], rounds: int) -> dict[str, list[Row]]:
    """Everything in turn, round after round. What fails is said and left out."""
    jobs: list[tuple[str, Callable[[Run, Target], Awaitable[Row]], Target]]
    jobs = [(target.name, everything, target) for target in targets]
    if UVICORN in targets:
        jobs += [(job.__name__, job, UVICORN) for job in (many, replay, storm)]
    found: dict[str, list[Row]] = {name: [] for name, _, _ in jobs}
    failed: set[str] = set()
    for number in range(rounds):
        for name, job, target in jobs:
            if name in failed:
                continue
            began = time.monotonic()
            try:
                row = await asyncio.wait_for(job(run, target), LIMIT)
            except Exception as error:
                failed.add(name)
                say(f"  {name}: failed and left out: {error!r}")
                if not isinstance(error, (ConnectionError, TimeoutError)):
                    say(traceback.format_exc())
                continue
            found[name].append(row)
            figures = "  ".join(f"{key} {value:.4g}" for key, value in row.items())
            say(f"  round {number + 1}, {time.monotonic() - began:.0f} s, {name}: {figures}")
    return found


def spread(rows: list[Row], key: str, form: str = "{:.1f}", scale: float = 1) -> str:
    values = [row[key] * scale for row in rows]
    low, middle, high = (form.format(value) for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low}-{high})"


def table(found: dict[str, list[Row]], targets: Sequence[Target], streams: int, rounds: int) -> str:
    floor = found.get(FLOOR.name) or []
    lines = [
        f"{streams:,} streams in one server process; rounds: {rounds}, shown is the median (least-most).",
        "CPU is the server's, in µs for each delivery; in brackets, how often the floor's.",
        "",
        HEADER,
        "|---|---|---|---|---|---|---|---|",
    ]
    for target in targets:
        if not (rows := found[target.name]):
            lines.append(f"| {target.name} | failed | | | | | | |")
            continue
        cells = [target.name]
        for label in ("fast", "steady"):
            key = f"{label}_cpu"
            cost = spread(rows, key, "{:.2f}")
            if floor and target is not FLOOR:
                ratio = median(row[key] for row in rows) / max(1e-9, median(row[key] for row in floor))
                cost += f" [{ratio:.2f} x]"
            cells += [cost, f"{spread(rows, f'{label}_p50')} / {spread(rows, f'{label}_p99')}"]
        cells.append(spread(rows, "idle", "{:,.0f}"))
        cells.append(f"{spread(rows, 'threads', '{:.2f}')} / {spread(rows, 'backends', '{:.2f}')}")
        cells.append(
            " / ".join(f"{sum(row[key] for row in rows):,.0f}" for key in ("missing", "repeats", "inversions"))
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *_alone(found, streams)]
    return "\n".join(lines).rstrip() + "\n"


def _alone(found: dict[str, list[Row]], streams: int) -> list[str]:
    """The lines of what only django_sse is asked for."""
    lines = []
    if rows := found.get("many"):
        lines += [
            f"| {streams:,} streams, a channel each: CPU per delivery, µs | {spread(rows, 'own_cpu', '{:.2f}')} |",
            f"| the same streams, one event for all: CPU per delivery, µs | {spread(rows, 'shared_cpu', '{:.2f}')} |",
        ]
    if rows := found.get("replay"):
        for label, source in (("ring", "memory"), ("database", "PostgreSQL")):
            one = spread(rows, f"{label}_one_after", scale=1000)
            total = spread(rows, f"{label}_one_total", scale=1000)
            everybody = spread(rows, f"{label}_all_total", "{:.2f}")
            lines += [
                f"| one client 1,000 behind, {source}: ms after its first byte / connect | {one} / {total} |",
                f"| {REPLAYERS} clients at once, {BEHIND} behind, {source}: all have it after s | {everybody} |",
            ]
    if rows := found.get("storm"):
        lines += [
            f"| {STORM:,} clients at once, each {BEHIND} behind: all live after s | {spread(rows, 'live', '{:.2f}')} |",
            f"| meanwhile: most connections to PostgreSQL | {spread(rows, 'backends', '{:.0f}')} |",
            f"| meanwhile: `send_event`, p99, ms | {spread(rows, 'send_p99')} |",
        ]
    if lines:
        keys = [key for name in ("many", "replay", "storm") for row in found.get(name, []) for key in row]
        lost = sum(
            row.get(key, 0)
            for name in ("many", "replay", "storm")
            for row in found.get(name, [])
            for key in set(keys)
            if key.endswith("missing")
        )
        lines.append(f"| missing in all of these | {lost:,.0f} |")
        lines = ["| django_sse on uvicorn, logged in, stored in PostgreSQL | |", "|---|---|", *lines]
    return lines


def write(text: str) -> None:
    """Put ``text`` between the marks of docs/performance.md."""
    before, begin, rest = DOCUMENT.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT} needs the lines {BEGIN} and {END}.")
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}{END}{after}")


async def run_all(options: Any, targets: Sequence[Target], env: dict[str, str], port: int) -> dict[str, list[Row]]:
    backends = Backends(port)
    publisher = await Publisher.start(env)
    try:
        return await measure(Run(publisher, backends, env, options.streams), targets, options.rounds)
    finally:
        await publisher.stop()
        backends.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--only", default="", help="parts of targets' names, separated by commas")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    options = parser.parse_args()
    parts = [part.strip() for part in options.only.split(",") if part.strip()]
    targets = [target for target in TARGETS if not parts or any(part in target.name for part in parts)]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended also then
    # django-eventstream holds a connection for each stream.
    with own_postgresql(max_connections=str(options.streams + 100)) as server:
        with server.connect("postgres") as connection:
            connection.execute("CREATE DATABASE bench_fanout")
        env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "benchmarks.servers.settings",
            "PGHOST": HOST,
            "PGPORT": str(server.port),
            "PGUSER": "postgres",
        }
        found = uvloop.run(run_all(options, targets, env, server.port))
    text = table(found, targets, options.streams, options.rounds)
    say(f"\n{text}")
    if options.write:
        write(text)


if __name__ == "__main__":
    main()
