"""The figures of this machine."""

from __future__ import annotations

from typing import NamedTuple

import psutil

__all__ = ["Sample", "cores", "measure"]


class Sample(NamedTuple):
    load: float
    """Processes that ran or waited to run, averaged over the last minute."""
    cpu: float
    """Per cent of the processors' time since the last sample."""
    memory: float
    """Per cent of the memory in use."""


def measure() -> Sample:
    return Sample(
        load=round(psutil.getloadavg()[0], 2),
        cpu=round(psutil.cpu_percent(), 1),
        memory=round(psutil.virtual_memory().percent, 1),
    )


def cores() -> int:
    return psutil.cpu_count() or 1
