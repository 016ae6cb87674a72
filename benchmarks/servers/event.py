"""The one event of the benchmark: about 210 bytes on the wire."""

from __future__ import annotations

import json
import time
from typing import Any

__all__ = ["data", "values"]

_PADDING = "x" * 150


def values(number: int) -> dict[str, Any]:
    """Stamp, number and padding, in the order that ``benchmarks.load`` reads."""
    return {"t": time.monotonic_ns(), "n": number, "p": _PADDING}


def data(number: int) -> str:
    return json.dumps(values(number), separators=(",", ":"))
