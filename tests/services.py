"""The servers that some tests need. At home a test that lacks one is skipped and says why; in CI it fails."""

from __future__ import annotations

import os
from typing import NoReturn

import psycopg
import pytest
import redis

from tests import settings


def missing(what: str) -> NoReturn:
    """Skip this test and say ``what`` the machine lacks; in CI fail, for there nobody reads the reasons of skips."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} With CI=true that is a failure, not a skip.", pytrace=False)
    pytest.skip(what)


def need_redis() -> None:
    """Go on only where Redis answers at ``REDIS_URL``."""
    try:
        redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5).ping()
    except redis.RedisError as error:
        missing(f"This test needs Redis at {settings.REDIS_URL} ({error}).")


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
        missing(f"This test needs PostgreSQL at {database['HOST']} ({error}).")
