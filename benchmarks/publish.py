"""Publishes a second on PostgreSQL: 1, 8 and 32 processes that each do 5 ms of work in a transaction and publish in it.

The floor is the same transaction with a plain INSERT of the same row: no order, no doorbell, and events are lost when
transactions commit in another order than they inserted. Beside it this package with each of its brokers, and
django-eventstream with its database storage. All in one run, the variants in turn, the median of the rounds.

    python -m benchmarks.publish [--seconds 3] [--rounds 3] [--writers 1,8,32] [--autocommit]
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from statistics import median
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from benchmarks.database import database

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.synchronize import Barrier

WORK = 0.005
COMMITS = {"cheap commits": "", "commits of 4 ms": "-c commit_delay=4000 -c commit_siblings=0"}
BACKENDS = {
    "django_sse, no broker": ("local.LocalBroker", {}),
    "django_sse, Redis": ("redis.RedisBroker", {"ALIAS": "redis"}),
    "django_sse, NOTIFY": ("postgres.PostgresBroker", {}),
    "django_sse, channel layer": ("channel_layer.ChannelLayerBroker", {}),
}
FLOOR, PEER, DEDICATED = "naive INSERT", "django-eventstream", "django_sse, sse_sequencer"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def publisher(variant: str) -> Callable[[int], Any]:
    if variant == FLOOR:
        from django_sse.models import Event

        return lambda number: Event.objects.create(channel="public.bench", type="message", data=f'{{"n":{number}}}')
    if variant == PEER:
        from django_eventstream import send_event as send_by_peer

        return lambda number: send_by_peer("bench", "message", {"n": number})
    from django_sse import send_event

    backend, options = BACKENDS.get(variant, BACKENDS["django_sse, no broker"])
    settings.DJANGO_SSE = {
        "BROKER": {"BACKEND": f"django_sse.brokers.{backend}", "OPTIONS": options},
        "DEDICATED_SEQUENCER": variant == DEDICATED,
    }
    return lambda number: send_event("public.bench", None, {"n": number})


def write(variant: str, seconds: float, autocommit: bool, start: Barrier, results: Any) -> None:
    publish = publisher(variant)
    publish(0)  # imports what it needs and connects
    start.wait()
    times = []
    end = time.monotonic() + seconds
    while (began := time.monotonic()) < end:
        if autocommit:
            publish(len(times))
        else:
            with transaction.atomic():
                time.sleep(WORK)  # what the rest of a request does between BEGIN and COMMIT
                publish(len(times))
        times.append(time.monotonic() - began)
    results.put(times)
    results.close()
    results.join_thread()
    connection.close()
    os._exit(0)  # daemon threads of brokers must not delay the next round


def measure(variant: str, writers: int, seconds: float, autocommit: bool) -> tuple[float, float, float]:
    """Return publishes a second, and the median and 99th percentile of one transaction in milliseconds."""
    connection.close()
    fork = multiprocessing.get_context("fork")
    start, results = fork.Barrier(writers), fork.Queue()
    processes = [
        fork.Process(target=write, args=(variant, seconds, autocommit, start, results)) for _ in range(writers)
    ]
    sequencer = fork.Process(target=call_command, args=("sse_sequencer",), daemon=True)
    if variant == DEDICATED:
        sequencer.start()
    for process in processes:
        process.start()
    times = sorted(time for _ in processes for time in results.get(timeout=seconds + 60))
    for process in processes:
        process.join(30)
    if variant == DEDICATED:
        from django_sse.log import unnumbered

        while unnumbered():
            time.sleep(0.01)
        sequencer.kill()
        connection.close()
    return len(times) / seconds, median(times) * 1000, times[int(len(times) * 0.99)] * 1000


def judge(variant: str) -> None:
    """See that what was measured was right: every event has its position, gaplessly; and empty the tables."""
    from django_sse.models import Event, Head

    if variant in (*BACKENDS, DEDICATED):
        positions = sorted(Event.objects.values_list("position", flat=True), key=lambda position: position or 0)
        head = Head.objects.get().position
        if positions != list(range(head - len(positions) + 1, head + 1)):
            say(f"  {variant}: {len(positions)} events, head {head}, {positions.count(None)} of them not numbered")
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE django_sse_event, django_eventstream_event")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--writers", default="1,8,32")
    parser.add_argument("--autocommit", action="store_true", help="publish without a transaction and without work")
    parser.add_argument("--only", default="", help="variants, separated by commas")
    options = parser.parse_args()
    variants = [FLOOR, *BACKENDS, DEDICATED, PEER]
    if options.only:
        variants = [variant for variant in variants if any(part in variant for part in options.only.split(","))]
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    with database(settings.DATABASES["default"]["NAME"]):
        call_command("migrate", verbosity=0)
        for label, server_options in COMMITS.items():
            settings.DATABASES["default"]["OPTIONS"] = {"options": server_options}
            connection.settings_dict["OPTIONS"] = settings.DATABASES["default"]["OPTIONS"]
            say(f"\n{label}: publishes/s (p50 / p99 ms), share of the floor")
            for writers in map(int, options.writers.split(",")):
                found: dict[str, list[tuple[float, float, float]]] = {variant: [] for variant in variants}
                for _ in range(options.rounds):
                    for variant in variants:
                        found[variant].append(measure(variant, writers, options.seconds, options.autocommit))
                        judge(variant)
                floor = median(rate for rate, _, _ in found[FLOOR]) if FLOOR in found else 0
                for variant, rows in found.items():
                    rate, p50, p99 = (median(column) for column in zip(*rows, strict=True))
                    share = f"{rate / floor:6.0%}" if floor else ""
                    say(f"  {writers:3d} writers  {variant:26} {rate:7.0f} ({p50:6.1f} / {p99:6.1f}) {share}")
        connection.close()


if __name__ == "__main__":
    main()
