from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.backing import OwnDatabase, PostgreSQL, RedisServer, own_postgresql, own_redis
from tests.faults.crowd import Crowd, crowd
from tests.faults.ledger import Ledger, as_text
from tests.live.conftest import database_of, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["database_of", "start"]

POLL = 1.0
"""``POLL_INTERVAL`` as it is without a setting."""


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL that tests may stop and kill if they start it again."""
    with own_postgresql() as server:
        yield server


@pytest.fixture
def database(postgresql: PostgreSQL) -> OwnDatabase:
    return postgresql.make_database()


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    """A Redis that this test may stop."""
    with own_redis() as server:
        yield server


@pytest.fixture
def book() -> Ledger:
    return Ledger()


@pytest.fixture
def browsers() -> Iterator[Callable[..., Crowd]]:
    """``browsers([port], 20, ["public.a"])``: that many, which come back for as long as the test runs."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def make(ports: list[int], count: int, channels: Any, last: int | None = None, **options: Any) -> Crowd:
            made = stack.enter_context(crowd(ports, **options))
            made.add(count, channels, last)
            made.all_live()
            return made

        yield make


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """``figures(streams=200, **verdict)``: what is printed at the end, and in docs/guarantees.md."""

    def figures(**values: object) -> None:
        for name, value in values.items():
            record_property(name.replace("_", " "), value)

    return figures


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [one for outcome in ("passed", "failed") for one in terminalreporter.stats.get(outcome, ())]
    lines = [
        (report.nodeid, dict(report.user_properties))
        for report in reports
        if report.when == "call" and "tests/faults" in report.nodeid and report.user_properties
    ]
    if lines:
        terminalreporter.section("figures")
    for name, values in lines:
        terminalreporter.write_line(f"{name.partition('tests/faults/')[2]}: {as_text(values)}")
