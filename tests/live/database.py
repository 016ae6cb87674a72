"""The databases of the live tests. Read with the bare driver: the tests ask the tables, not the package."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import psycopg

from tests.server import ROOT, environment
from tests.services import missing
from tests.settings import MYSQL, POSTGRESQL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["SETTINGS", "Database", "empty_database", "make_database"]

SETTINGS = "tests.live.settings"
NAMED = {"sqlite": "LIVE_SQLITE", "postgresql": "PGDATABASE", "mysql": "MYSQL_DATABASE"}
"""The variable of the environment that names a vendor's database."""
_numbers = count()


class Database:
    """A migrated database that only the live tests use."""

    def __init__(self, vendor: str, name: str) -> None:
        self.vendor = vendor
        self.name = name
        self.env = {"DATABASE": vendor, NAMED[vendor]: name}

    def connect(self) -> Any:
        """Return a connection of the driver; as a context manager it closes itself only on PostgreSQL."""
        if self.vendor == "sqlite":
            return sqlite3.connect(self.name)
        return _postgresql(self.name) if self.vendor == "postgresql" else _mariadb(self.name)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(self.connect()) as connection:
            cursor = connection.cursor()
            cursor.execute(sql)
            return list(cursor.fetchall())

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


def _mariadb(name: str | None = None) -> Any:
    try:
        from MySQLdb import OperationalError, connect
    except ImportError:
        missing("This test needs the dependency group mariadb.")
    keys = {"host": MYSQL["HOST"], "user": MYSQL["USER"], "password": MYSQL["PASSWORD"]}
    try:
        return connect(**keys, **({"database": name} if name else {}), charset="utf8mb4", autocommit=True)
    except OperationalError as error:
        missing(f"This test needs MariaDB at {MYSQL['HOST']} ({error}).")


def _administration(vendor: str) -> Any:
    """Return a connection that may create databases. Skips where the server cannot be reached, except in CI."""
    if vendor == "mysql":
        return _mariadb()
    try:
        return _postgresql(POSTGRESQL["NAME"])
    except psycopg.OperationalError as error:
        missing(f"The live tests need PostgreSQL at {POSTGRESQL['HOST']} ({error}).")


@contextmanager
def empty_database(vendor: str, directory: Path) -> Iterator[Database]:
    """Create a database; drop it at the end."""
    name = f"django_sse_live_{os.getpid()}_{next(_numbers)}"
    if vendor == "sqlite":
        yield Database(vendor, str(directory / f"{name}.sqlite3"))
        return
    force = " WITH (FORCE)" if vendor == "postgresql" else ""
    with closing(_administration(vendor)) as administration, closing(administration.cursor()) as cursor:
        # A process that was killed may have left one of this name.
        cursor.execute(f"DROP DATABASE IF EXISTS {name}{force}")
        cursor.execute(f"CREATE DATABASE {name}" + (" CHARACTER SET utf8mb4" if vendor == "mysql" else ""))
        try:
            yield Database(vendor, name)
        finally:
            cursor.execute(f"DROP DATABASE {name}{force}")


@contextmanager
def make_database(vendor: str, directory: Path) -> Iterator[Database]:
    """Create and migrate a database; drop it at the end."""
    with empty_database(vendor, directory) as database:
        database.manage("migrate", "--run-syncdb", "--verbosity=0")
        yield database
