"""The benchmarks' own PostgreSQL database, made before a run and dropped after it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tests.settings import POSTGRESQL

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["database"]


@contextmanager
def database(name: str) -> Iterator[None]:
    """Make the database ``name``, and drop it at the end with whoever is still connected."""
    server = psycopg.connect(
        host=POSTGRESQL["HOST"],
        port=POSTGRESQL["PORT"],
        user=POSTGRESQL["USER"],
        password=POSTGRESQL["PASSWORD"],
        dbname=POSTGRESQL["NAME"],
        autocommit=True,
    )
    drop = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    with server:
        server.execute(drop)
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield
        finally:
            server.execute(drop)
