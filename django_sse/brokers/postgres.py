"""A broker over PostgreSQL's LISTEN and NOTIFY, for projects that have PostgreSQL and nothing else.

``{"BACKEND": "django_sse.brokers.postgres.PostgresBroker", "OPTIONS": {"ALIAS": "default"}}``. Each process keeps one
connection to listen, and one that is opened to notify; both by psycopg 3, outside of Django's. LISTEN needs a
session: a pgbouncer in transaction mode cannot carry it, so name an alias that goes to PostgreSQL directly.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import contextmanager, suppress
from selectors import EVENT_READ, DefaultSelector
from threading import Event, Timer
from typing import TYPE_CHECKING, Any, Final

import psycopg
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.connection import ConnectionDoesNotExist
from psycopg.pq import ExecStatus

from django_sse.brokers.network import PING_AFTER, PING_DEADLINE, NetworkBroker, heed_cancellation
from django_sse.exceptions import InvalidEvent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping

    from psycopg.pq.abc import PGconn

__all__ = ["PostgresBroker"]

CHANNEL: Final = "django_sse"
"""Of NOTIFY. It is heard within one database, so sites do not need more."""
MAX_BYTES: Final = 7999
"""What a NOTIFY may carry."""
PING: Final = "ping"
DEAF: Final = (
    "PostgreSQL takes a NOTIFY, but LISTEN does not hear it. A pgbouncer with pool_mode=transaction does that: name an "
    "alias that goes to PostgreSQL directly in OPTIONS['ALIAS'] of DJANGO_SSE['BROKER']."
)
TIMEOUTS: Final = {"connect_timeout": 3, "tcp_user_timeout": 3000, "keepalives_idle": 5, "keepalives_interval": 1}
"""Seconds, milliseconds, seconds, seconds: a server that has vanished must not hold a thread for a quarter hour."""


class PostgresBroker(NetworkBroker):
    """NOTIFY and LISTEN in the database ``ALIAS``; of a stored event only the position is told."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        alias = options.get("ALIAS", "default")
        try:
            wrapper: Any = connections[alias]
        except ConnectionDoesNotExist as error:
            raise ImproperlyConfigured(f"PostgresBroker: OPTIONS['ALIAS'] is {alias!r}. {error}") from error
        if wrapper.vendor != "postgresql":
            raise ImproperlyConfigured(
                f"PostgresBroker: the database {alias!r} is {wrapper.vendor}, not PostgreSQL. Name another alias in "
                "OPTIONS['ALIAS'], or choose another broker."
            )
        self._wrapper = wrapper  # for its settings alone; a test runner may still rename its database
        self._connection: psycopg.Connection | None = None
        os.register_at_fork(after_in_child=self._disown)

    def validate(self, channel: str, type: str, data: str) -> None:
        size = len(self._encode(channel, type, data).encode())
        if size > MAX_BYTES:
            raise InvalidEvent(
                f"An ephemeral event of {size} bytes does not fit into a NOTIFY of PostgreSQL, which carries "
                f"{MAX_BYTES}. Store it (leave out store=False), shorten it, or use the Redis broker."
            )

    def _publish(self, message: str) -> None:
        try:
            if self._connection is None:
                self._connection = psycopg.connect(**self._parameters(), autocommit=True)
            _notify(self._connection.pgconn, message)
        except BaseException:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
            raise

    def _disown(self) -> None:
        self._connection = None  # the parent's: psycopg leaves it open for the process that made it

    async def _messages(self) -> AsyncGenerator[str, None]:
        connection = await psycopg.AsyncConnection.connect(**self._parameters(), autocommit=True)
        try:
            with _deadline(connection):
                await connection.execute(f"LISTEN {CHANNEL}")
            for word in await self._first_words(connection):
                yield word
            while True:
                async for notify in connection.notifies(timeout=PING_AFTER):
                    if notify.payload != PING:
                        yield notify.payload
                with _deadline(connection):
                    await connection.execute("SELECT 1")
                heed_cancellation()
        finally:
            await connection.close()

    async def _first_words(self, connection: psycopg.AsyncConnection) -> list[str]:
        """Hear what another connection notifies; return what else was heard meanwhile. Through a pgbouncer that shares
        its connections between transactions every query is answered, and nothing is ever heard."""
        other = await psycopg.AsyncConnection.connect(**self._parameters(), autocommit=True)
        try:
            with _deadline(other):
                await other.execute("SELECT pg_notify(%s, %s)", [CHANNEL, PING])
        finally:
            await other.close()
        heard = [notify.payload async for notify in connection.notifies(timeout=PING_DEADLINE, stop_after=1)]
        if not heard:
            raise ConnectionError(DEAF)
        return ["", *(word for word in heard if word != PING)]

    def _parameters(self) -> dict[str, Any]:
        parameters = {**TIMEOUTS, **self._wrapper.get_connection_params()}
        for name in ("cursor_factory", "context", "prepare_threshold"):  # Django's own ways with cursors
            parameters.pop(name, None)
        return parameters


def _notify(pgconn: PGconn, message: str) -> None:
    """Raise ``psycopg.Error``, or ``TimeoutError`` where the server does not answer within ``PING_DEADLINE``.

    By libpq's own calls, since each publisher pays for it: ``execute`` under ``_deadline`` costs a thread every time.
    """
    pgconn.send_query_params(b"SELECT pg_notify($1, $2)", [CHANNEL.encode(), message.encode()])
    end = time.monotonic() + PING_DEADLINE
    with DefaultSelector() as selector:
        selector.register(pgconn.socket, EVENT_READ)
        while pgconn.flush() or pgconn.is_busy():
            if not selector.select(max(0, end - time.monotonic())):
                raise _late()
            pgconn.consume_input()
    while result := pgconn.get_result():
        if result.status != ExecStatus.TUPLES_OK:
            raise psycopg.OperationalError(result.error_message.decode(errors="replace"))


def _late() -> TimeoutError:
    return TimeoutError(f"PostgreSQL did not answer within {PING_DEADLINE} s.")


@contextmanager
def _deadline(connection: psycopg.AsyncConnection) -> Iterator[None]:
    """Raise ``TimeoutError`` where the server does not answer the block within ``PING_DEADLINE``.

    psycopg waits for an answer for ever and, cancelled, for the answer to that, so its connection is cut under it.
    """
    # A copy: when the time is up, the number may already be that of somebody else's connection.
    line = socket.fromfd(connection.pgconn.socket, socket.AF_INET, socket.SOCK_STREAM)
    late = Event()

    def cut() -> None:
        late.set()
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    timer = Timer(PING_DEADLINE, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except psycopg.Error as error:
        if late.is_set():
            raise _late() from error
        raise
    finally:
        timer.cancel()
        line.close()
