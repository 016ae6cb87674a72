"""The health of the demo's parts."""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import psutil
from django.conf import settings
from django.db import DatabaseError

from demo_project.dashboard import connections
from django_sse import log

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Part", "disk_percent", "examine"]

SLOW = 0.25
"""Seconds after which the database's answer is no longer healthy."""
FULL = 95.0
"""Per cent of the disk in use that is no longer healthy."""
GIGABYTE = 1024**3
MEGABYTE = 1024**2


class Part(NamedTuple):
    name: str
    healthy: bool
    value: str
    """The figure."""
    detail: str
    """What it says."""


def examine(*, serves: bool = True) -> list[Part]:
    """``serves``: this process has streams to count; otherwise it only publishes."""
    streams = [_streams()] if serves else []
    return [*_database(), *streams, _disk(), _process("Server" if serves else "Publisher")]


def disk_percent() -> float:
    return psutil.disk_usage(str(settings.BASE_DIR)).percent


def _database() -> Iterator[Part]:
    began = perf_counter()
    try:
        floor, head, _ = log.reach()
    except DatabaseError as error:
        yield Part("Database", False, "no answer", str(error))
        return
    seconds = perf_counter() - began
    yield Part("Database", seconds < SLOW, f"{seconds * 1000:.1f} ms", "to read the head of the log")
    yield Part("Log", True, f"{head:,}", f"is its head; replay reaches back to {floor + 1:,}" if head else "is empty")


def _streams() -> Part:
    count = connections.count()
    return Part("Streams", True, str(count), "open in this process")


def _disk() -> Part:
    usage = psutil.disk_usage(str(settings.BASE_DIR))
    return Part(
        "Disk",
        usage.percent < FULL,
        f"{usage.free / GIGABYTE:,.0f} GB",
        f"free, {usage.percent:.0f} % in use",
    )


def _process(name: str) -> Part:
    process = psutil.Process()
    memory = process.memory_info().rss / MEGABYTE
    return Part(name, True, f"{memory:.0f} MB", f"of memory, {process.num_threads()} threads")
