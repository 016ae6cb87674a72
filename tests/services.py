"""The servers that some tests need. At home a test that lacks one is skipped and says why; in CI it fails."""

from __future__ import annotations

import os
from typing import NoReturn

import psycopg
import pytest
import redis

from tests import settings


def missing(what: str) -> NoReturn:
    """Skip this test because the machine lacks ``what``; fail where ``CI`` promises it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI promises {what}, and it is missing")
    pytest.skip(f"this machine lacks {what}")


def need_redis() -> None:
    """Go on only where Redis answers at ``REDIS_URL``."""
    try:
        redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5).ping()
    except redis.RedisError as error:
        missing(f"Redis at {settings.REDIS_URL} ({error})")


def need_postgresql() -> None:
    """Go on only where PostgreSQL answers as the settings say."""
    database = settings.POSTGRESQL
    try:
        psycopg.connect(
            host=database["HOST"],
            port=database["PORT"],
            user=database["USER"],
            password=database["PASSWORD"],
            dbname=database["NAME"],
            connect_timeout=5,
        ).close()
    except psycopg.OperationalError as error:
        missing(f"PostgreSQL at {database['HOST']} ({error})")
