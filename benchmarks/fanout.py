"""One process, many streams: what a delivery costs the server, and how late it is, beside what else one could pick.

    python -m benchmarks.fanout [--rounds 3] [--streams 1000] [--only floor,uvicorn] [--write]

Workloads of every target: ``idle`` (bytes, threads and database connections a stream), ``fast`` (200 events at once)
and ``steady`` (20 events/s); of django_sse also ``many`` (each stream on its own channel), ``replay``, ``storm``, and
once ``idle`` with thousands. Clients, servers, publisher, Redis and a PostgreSQL of the run's own share the machine;
CPU is the server process's.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import signal
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any, Final

import uvloop

from benchmarks.tables import table, write
from benchmarks.targets import HOST, TARGETS, UVICORN, Publisher
from benchmarks.workloads import Backends, Run, everything, idle, many, replay, storm
from tests.faults.backing import own_postgresql

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from benchmarks.targets import Target
    from benchmarks.workloads import Row

LIMIT: Final = {"idle": 400, "Channels WebSocket, uvicorn, Redis": 400}
"""Seconds that a job may take in one round, by its name; 150 for others."""


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def measure(run: Run, targets: Sequence[Target], rounds: int) -> dict[str, list[Row]]:
    """Everything in turn, round after round. What fails is said and left out."""
    jobs: list[tuple[str, Callable[[Run, Target], Awaitable[Row]], Target]]
    jobs = [(target.name, everything, target) for target in targets]
    if UVICORN in targets:
        jobs += [(job.__name__, job, UVICORN) for job in (many, replay, storm, idle)]
    found: dict[str, list[Row]] = {name: [] for name, _, _ in jobs}
    failed: set[str] = set()
    for number in range(rounds):
        for name, job, target in jobs:
            if name in failed or (name == "idle" and number):
                continue
            began = time.monotonic()
            try:
                row = await asyncio.wait_for(job(run, target), LIMIT.get(name, 150))
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
