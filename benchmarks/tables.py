"""The tables of the fan-out benchmark, in Markdown."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.targets import FLOOR
from benchmarks.workloads import BEHIND, IDLE, REPLAYERS, STORM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.targets import Target
    from benchmarks.workloads import Row

__all__ = ["table", "write"]

BEGIN, END = "<!-- fan-out: begin -->", "<!-- fan-out: end -->"
DOCUMENT: Final = Path(__file__).parent.parent / "docs/performance.md"

HEADER: Final = (
    "| | fast: CPU | p50 / p99, ms | steady: CPU | p50 / p99, ms | idle, bytes per stream "
    "| threads / connections to PostgreSQL per stream | CPU to open a stream, ms | missing / repeated / out of order |"
)


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
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for target in targets:
        if not (rows := found[target.name]):
            lines.append(f"| {target.name} | failed | | | | | | | |")
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
        cells.append(spread(rows, "open_cpu_ms", "{:.2f}"))
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
    if rows := found.get("idle"):
        for count in IDLE:
            key = f"idle_{count}"
            bytes_, cpu = spread(rows, f"{key}_bytes", "{:,.0f}"), spread(rows, f"{key}_cpu", "{:.1f}", 100)
            held = f"{spread(rows, f'{key}_threads', '{:.0f}')} / {spread(rows, f'{key}_backends', '{:.0f}')}"
            lines += [
                f"| {count:,} idle streams: bytes each / CPU, % of a core | {bytes_} / {cpu} |",
                f"| {count:,} idle streams: threads more than before the first / connections to PostgreSQL | {held} |",
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
