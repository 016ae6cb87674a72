"""Run every test that proves a promise, and write docs/guarantees.md from what came out: ``make guarantees``.

``--deliveries``: how many the big run takes at least. ``--from FILE``: the results of a run that was made already.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import defaultdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tests.faults import suite
from tests.faults.ledger import FAULTS, as_text
from tests.faults.promises import PROMISES
from tests.server import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAGE: Final = ROOT / "docs" / "guarantees.md"
BIG_RUN: Final = "faults/test_big_run.py::test_random_kills_lose_nothing"
PACKAGES: Final = ("django", "psycopg", "redis", "django-redis", "uvicorn", "daphne")
PROGRAMS: Final = {
    "PostgreSQL": ["/bin/sh", "-c", "$(ls /usr/lib/postgresql/*/bin/postgres | tail -1) --version"],
    "Redis": ["redis-server", "--version"],
    "nginx": ["/bin/sh", "-c", "nginx -v 2>&1"],
    "pgbouncer": ["/bin/sh", "-c", "pgbouncer --version | head -1"],
    "Chromium": ["chromium", "--version"],
}


INTRODUCTION: Final = """\
# Guarantees

What this package promises, the tests that prove it, and what they measured. `make guarantees` runs them and writes this
page; nothing in it is written by hand but the promises themselves.
"""
BIG_RUN_INTRODUCTION: Final = """\
## The big run

Server processes, publisher processes, PostgreSQL and Redis, and one of them after the other is killed at random while
browsers read and come back with their last event ID. Then the judge compares what was committed with what came.
"""
PROMISES_INTRODUCTION: Final = """
## The promises

The judge is `tests/checker.py`. Its faults are: *lost* (committed, due, and did not come), *phantom* (came, and was
never committed), *duplicate* (twice on one connection), *inversion* (against the order of commits), *silent gap* (the
client's id went past it) and *groundless reset*. Every test below `tests/faults` that delivers events ends with that
judge, and passes with none of them.
"""
FIGURES_INTRODUCTION: Final = """
## The figures of this run

Of the tests below `tests/faults`, from their own clocks and logs. Seconds depend on the machine, which others may have
used at the same time: the tests assert generous bounds on them. Of what the judge counts as a fault they allow none.
"""


class Result(NamedTuple):
    """All cases of one test function."""

    cases: dict[str, tuple[str, dict[str, Any]]]
    """By their parameters: the outcome and the figures."""

    def __str__(self) -> str:
        counted: dict[str, int] = defaultdict(int)
        for outcome, _ in self.cases.values():
            counted[outcome] += 1
        return ", ".join(
            f"{count} {'**FAILED**' if outcome == 'failed' else outcome}" for outcome, count in counted.items()
        )


def read(path: Path) -> dict[str, Result]:
    """Return the results by the name that a promise has for a test."""
    results: dict[str, Result] = defaultdict(lambda: Result({}))
    for line in path.read_text().splitlines():
        one = json.loads(line)
        name, _, case = one["test"].removeprefix("tests/").partition("[")
        results[name].cases[case.removesuffix("]")] = (one["outcome"], one["figures"])
    return dict(results)


def write(results: dict[str, Result]) -> Iterator[str]:
    """Yield the lines of the page."""
    yield INTRODUCTION
    yield from _machine()
    yield ""
    yield from _big_run(results.get(BIG_RUN))
    yield PROMISES_INTRODUCTION
    yield "| | promise | tests, and their cases in this run | but |"
    yield "|---|---|---|---|"
    for number, promise in enumerate(PROMISES, 1):
        tests = "; ".join(f"`{name.rpartition('::')[2]}` ({results[name]})" for name in promise.tests)
        yield f"| {number} | {promise.text} | {tests or '-'} | {promise.but} |"
    yield FIGURES_INTRODUCTION
    for name in sorted(results):
        file, _, function = name.rpartition("::")
        for case, (outcome, figures) in sorted(results[name].cases.items()) if file.startswith("faults/") else ():
            text = as_text({key: value for key, value in figures.items() if not (_is_fault(key) and value == 0)})
            failed = "**FAILED** " if outcome == "failed" else ""
            yield f"* `{function}`{f' ({case})' if case else ''}: {failed}{text or outcome}"


def _is_fault(key: str) -> bool:
    return key.rpartition(": ")[2] in FAULTS


def _machine() -> Iterator[str]:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield "| | |"
    yield "|---|---|"
    yield f"| date | {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {_say(['git', 'rev-parse', '--short', 'HEAD'])} |"
    yield f"| machine | {os.cpu_count()} cores, {model}, {memory:.0f} GB, {platform.system()} {platform.release()} |"
    versions = [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES)]
    versions += [f"{name} {_number(_say(command))}" for name, command in PROGRAMS.items()]
    yield f"| versions | {', '.join(versions)} |"


def _big_run(result: Result | None) -> Iterator[str]:
    yield BIG_RUN_INTRODUCTION
    if result is None:
        yield "It was not part of this run."
        return
    ((outcome, figures),) = result.cases.values()
    yield f"It {'passed' if outcome == 'passed' else '**FAILED**'}."
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in figures.items():
        yield f"| {name} | {f'{value:.3g}' if isinstance(value, float) else f'{value:,}'} |"


def _say(command: Sequence[str]) -> str:
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "not there"


def _number(text: str) -> str:
    numbers = [word.removeprefix("v=") for word in text.replace("/", " ").split()]
    return next((word for word in numbers if word[:1].isdigit() and "." in word), text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=1_000_000)
    parser.add_argument("--from", dest="results", type=Path)
    options = parser.parse_args()
    if options.results is None:
        file = tempfile.NamedTemporaryFile(prefix="guarantees-", suffix=".jsonl", delete=False)  # noqa: SIM115 - kept
        options.results = Path(file.name)
        print(f"The results go to {file.name}", flush=True)  # noqa: T201
        named = {f"tests/{test}" for promise in PROMISES for test in promise.tests}
        others = sorted(test for test in named if not test.startswith("tests/faults/"))
        environment = {
            **os.environ,
            "FAULTS_RESULTS": file.name,
            "FAULTS_DELIVERIES": str(options.deliveries),
        }
        plugin = ("-v", "-p", "tests.faults.results")
        suite.run(*plugin, env=environment)
        subprocess.run([sys.executable, "-m", "pytest", *plugin, *others], cwd=ROOT, env=environment, check=False)
    results = read(options.results)
    unknown = {test for promise in PROMISES for test in promise.tests} - results.keys()
    if unknown:
        print(f"Promises name tests that did not run: {', '.join(sorted(unknown))}", file=sys.stderr)  # noqa: T201
        return 1
    PAGE.write_text("\n".join(write(results)) + "\n")
    print(f"Wrote {PAGE}")  # noqa: T201
    return int(any(outcome == "failed" for result in results.values() for outcome, _ in result.cases.values()))


if __name__ == "__main__":
    sys.exit(main())
