"""The databases of the live tests. Read with the bare driver: the tests ask the tables, not the package."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from tests.server import ROOT, environment
from tests.services import missing
from tests.settings import MYSQL, POSTGRESQL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["SETTINGS", "Database", "make_database"]

SETTINGS = "tests.live.settings"
NAMED_BY = {"sqlite": "LIVE_SQLITE", "postgresql": "PGDATABASE", "mysql": "MYSQL_DATABASE"}
"""The variable that tells a server which database to use."""


class Database:
    """A migrated database that only the live tests use."""

    def __init__(self, vendor: str, name: str) -> None:
        self.vendor = vendor
        self.name = name
        self.env = {"DATABASE": vendor, NAMED_BY[vendor]: name}

    def connect(self) -> Any:
        """Return a connection of the driver; as a context manager it closes itself only on PostgreSQL. Not for MySQL:
        the tests that look at its tables do so by Django."""
        return sqlite3.connect(self.name) if self.vendor == "sqlite" else _postgresql(self.name)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(self.connect()) as connection:
            return list(connection.execute(sql).fetchall())

    def positions(self) -> dict[str, int | None]:
        """Return the position of every event by its text."""
        return {data.strip('"'): at for data, at in self.query("SELECT data, position FROM django_sse_event")}

    def head(self) -> int:
        rows = self.query("SELECT position FROM django_sse_head")
        return rows[0][0] if rows else 0

    def floor(self) -> int:
        rows = self.query("SELECT floor FROM django_sse_head")
        return rows[0][0] if rows else 0

    def manage(self, *arguments: str) -> str:
        """Run a management command in a process of its own; return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=ROOT,
            env=environment(SETTINGS, self.env),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _postgresql(name: str) -> psycopg.Connection[Any]:
    keys = {"HOST": "host", "PORT": "port", "USER": "user", "PASSWORD": "password"}
    server = {ours: POSTGRESQL[theirs] for theirs, ours in keys.items()}
    return psycopg.connect(dbname=name, connect_timeout=5, autocommit=True, **server)


@contextmanager
def _mysql() -> Iterator[Callable[[str], None]]:
    """Give what executes a statement as administrator of MySQL or MariaDB."""
    try:
        import MySQLdb
    except ImportError:
        missing("This test needs mysqlclient: pip install --group mariadb.")
    try:
        connection = MySQLdb.connect(host=MYSQL["HOST"], user=MYSQL["USER"], password=MYSQL["PASSWORD"])
    except MySQLdb.OperationalError as error:
        missing(f"This test needs MySQL or MariaDB at {MYSQL['HOST']} ({error}).")
    with closing(connection), closing(connection.cursor()) as cursor:
        yield cursor.execute


@contextmanager
def _administration(vendor: str) -> Iterator[Callable[[str], object]]:
    if vendor == "mysql":
        with _mysql() as execute:
            yield execute
        return
    try:
        connection = _postgresql(POSTGRESQL["NAME"])
    except psycopg.OperationalError as error:
        missing(f"The live tests need PostgreSQL at {POSTGRESQL['HOST']} ({error}).")
    with closing(connection):
        yield connection.execute


@contextmanager
def make_database(vendor: str, directory: Path) -> Iterator[Database]:
    """Create and migrate a database; drop it at the end. Skips where its server cannot be reached, except in CI."""
    if vendor == "sqlite":
        database = Database(vendor, str(directory / "live.sqlite3"))
        database.manage("migrate", "--run-syncdb", "--verbosity=0")
        yield database
        return
    name = f"django_sse_live_{os.getpid()}"
    force, characters = (" WITH (FORCE)", "") if vendor == "postgresql" else ("", " CHARACTER SET utf8mb4")
    with _administration(vendor) as execute:
        execute(f"DROP DATABASE IF EXISTS {name}{force}")
        execute(f"CREATE DATABASE {name}{characters}")
        try:
            database = Database(vendor, name)
            database.manage("migrate", "--run-syncdb", "--verbosity=0")
            yield database
        finally:
            execute(f"DROP DATABASE {name}{force}")
