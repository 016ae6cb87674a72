"""Give positions to committed events, gaplessly and in commit order.

An auto-increment key is taken at insertion, so it is not commit order, and a reader that asks for "id > last" loses
the event of a transaction that commits late. Positions are therefore given after commit, under a lock, to every
committed row that has none: whoever gets the lock numbers everybody's. Nobody queues for it. Who finds it taken
leaves, because its holder looks again once it has let go. So one commit of the database serves all who published
meanwhile, and the more often a process finds it taken, the longer it gathers when its turn comes. Running it twice does
nothing, and a process that dies before it is healed by the next run, from any process.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from django.db import connections, transaction

from django_sse import log
from django_sse.conf import settings
from django_sse.models import Event, Head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["NUMBERING", "Numbered", "joins", "number", "rounds", "sequence"]

_GATHER: Final = 0.002
"""Seconds that the second and later rounds hold the lock before they look, so that one numbers for many."""
_GATHER_EACH: Final = 0.001
_GATHER_MOST: Final = 0.010
"""Seconds that the first round does so, for each time in a row that this process was turned away, and at most. One
statement and one ring then serve many, and a publisher that is alone does not wait."""
_ROUNDS: Final = 10
"""Rounds in which one publisher numbers what others publish meanwhile, before it leaves that to the next of them."""

_EVENTS: Final = Event._meta.db_table
_HEAD: Final = Head._meta.db_table
_WAITING: Final = f"SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS place FROM {_EVENTS} WHERE position IS NULL"
_NUMBER: Final = (
    f"UPDATE {_EVENTS} SET position = %s + waiting.place FROM ({_WAITING}) AS waiting WHERE {_EVENTS}.id = waiting.id"
)
_EACH_SEES_WHAT_IS_COMMITTED: Final = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED"
_TRY: Final = f"SELECT pg_try_advisory_xact_lock('{_HEAD}'::regclass::bigint) AS got"
_TRY_AT_THE_END: Final = f"{_TRY}, set_config('idle_in_transaction_session_timeout', '{log.LOCK_TIMEOUT}', true)"
_NUMBER_ON_POSTGRESQL: Final = f"""
WITH mine AS MATERIALIZED ({_TRY}),
head AS MATERIALIZED (SELECT position FROM {_HEAD} WHERE id = 1 AND (SELECT got FROM mine) FOR UPDATE),
waiting AS MATERIALIZED (
    SELECT event.id FROM {_EVENTS} AS event, head WHERE event.position IS NULL ORDER BY event.id FOR UPDATE OF event),
places AS (SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS place FROM waiting),
numbered AS (
    UPDATE {_EVENTS} AS event SET position = head.position + places.place FROM places, head
    WHERE event.id = places.id RETURNING event.id),
moved AS (
    UPDATE {_HEAD} AS row SET position = head.position + (SELECT COUNT(*) FROM numbered) FROM head
    WHERE row.id = 1 AND EXISTS (SELECT FROM numbered))
SELECT (SELECT got FROM mine), (SELECT position FROM head), (SELECT COUNT(*) FROM numbered)
"""
_CHUNK: Final = 500


class Numbered(NamedTuple):
    """What a run did."""

    head: int
    """The last position given."""
    events: int
    """How many this run gave."""


def _number(connection: BaseDatabaseWrapper, gather: float, ending: bool) -> Numbered | None:
    """Where there is one writer at a time, a lock that is waited for is all that is needed."""
    with transaction.atomic(using=connection.alias, savepoint=False), connection.cursor() as cursor:
        head = log.lock().head
        cursor.execute(_NUMBER, [head])
        return _moved(head, cursor.rowcount)


def _number_on_postgresql(connection: BaseDatabaseWrapper, gather: float, ending: bool) -> Numbered | None:
    """One statement. Its snapshot may be older than its lock, so rows that others have numbered since may look as if
    they waited: FOR UPDATE sees their newest version, and drops them before places are counted.

    The lock is an advisory one: it writes nothing, and trimming does not hold it. It is tried by itself first, so that
    the long statement is not planned in vain for the many who come while another is at it.

    Outside a transaction what is to be done under the lock goes to the server in one message, which is a transaction
    of its own. The server does not wait for us in it, so we may stop or vanish at any time and hold nobody up.
    """
    with connection.cursor() as cursor:
        cursor.execute(_TRY_AT_THE_END if ending else _TRY)
        if not cursor.fetchone()[0]:
            return None
        statements = [_NUMBER_ON_POSTGRESQL]
        if not connection.in_atomic_block:
            if gather:
                statements.insert(0, f"SELECT pg_sleep({gather}) WHERE ({_TRY})")
            if not joins(connection):
                statements.insert(0, _EACH_SEES_WHAT_IS_COMMITTED)
        cursor.execute("; ".join(statements))
        while cursor.nextset():
            pass
        got, head, events = cursor.fetchone()
    if got and head is None:
        with transaction.atomic(using=connection.alias, savepoint=False):
            log.lock()  # makes the head
        return _number_on_postgresql(connection, gather, ending)
    return Numbered(head + events, events) if got else None


def _number_on_mysql(connection: BaseDatabaseWrapper, gather: float, ending: bool) -> Numbered | None:
    """An UPDATE of InnoDB waits for the uncommitted rows it meets, so for every transaction that has published and is
    still open. A plain SELECT does not see them: find the rows first, then update those and no others."""
    with _transaction(connection), connection.cursor() as cursor:
        reach = log.try_lock()
        if reach is None:
            return None
        if gather:
            time.sleep(gather)
        cursor.execute(f"SELECT id FROM {_EVENTS} WHERE position IS NULL ORDER BY id")
        ids = [row[0] for row in cursor.fetchall()]
        for start in range(0, len(ids), _CHUNK):
            chunk = ids[start : start + _CHUNK]
            marks = ", ".join(["%s"] * len(chunk))
            cursor.execute(  # by force: a scan of a small table would meet, and wait for, what is not committed
                f"UPDATE {_EVENTS} FORCE INDEX (PRIMARY) SET position = %s + FIELD(id, {marks}) WHERE id IN ({marks})",
                [reach.head + start, *chunk, *chunk],
            )
        return _moved(reach.head, len(ids))


@contextmanager
def _transaction(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """The caller's transaction, or one of our own in which each statement sees what is committed by then."""
    outermost = not connection.in_atomic_block
    with transaction.atomic(using=connection.alias, savepoint=False):
        if outermost and not joins(connection):
            with connection.cursor() as cursor:
                cursor.execute(_EACH_SEES_WHAT_IS_COMMITTED)
        yield


def _moved(head: int, events: int) -> Numbered:
    if events:
        head += events
        Head.objects.using(settings.DATABASE).filter(pk=1).update(position=head)
    return Numbered(head, events)


NUMBERING: Final = {"postgresql": _number_on_postgresql, "sqlite": _number, "mysql": _number_on_mysql}
"""By ``connection.vendor``: what does the work of ``number``."""


def joins(connection: BaseDatabaseWrapper) -> bool:
    """Tell whether numbering may join a transaction that has begun: it may where each statement sees what is committed,
    not where all see what was when the transaction began (REPEATABLE READ, SERIALIZABLE)."""
    connection.ensure_connection()
    level = getattr(connection, "isolation_level", "read committed")  # SQLite has none, and one writer
    return str(getattr(level, "name", level)).replace("_", " ").lower() == "read committed"


def number(gather: float = 0, *, ending: bool = False) -> Numbered | None:
    """Number once what is committed and has no position; return None where somebody else is at it just now.

    Runs in a transaction of its own, or, where the caller has one open, in that. ``gather``: the seconds to hold the
    lock before looking, so that those who publish meanwhile are numbered too; in a transaction of its own only.
    ``ending``: the caller's transaction commits next. PostgreSQL rolls it back where that takes longer than
    ``log.LOCK_TIMEOUT``.
    """
    connection = connections[settings.DATABASE]
    return NUMBERING[connection.vendor](connection, gather, ending)


class _Crowd:
    """How many seem to publish at the same time."""

    turned_away = 0
    """How often in a row this process found somebody else at it."""


_crowd: Final = _Crowd()


def rounds() -> Iterator[Numbered]:
    """Number until nothing waits, and yield what each round did: nothing where somebody else is at it.

    Who came while we were at it has left its rows to us, so we look again after we have let go. After ten rounds they
    are left to the next publisher, or to a hub's poll.
    """
    gather = min(_crowd.turned_away * _GATHER_EACH, _GATHER_MOST)
    for _ in range(_ROUNDS):
        numbered = number(gather)
        if numbered is None:
            _crowd.turned_away += 1
            return
        _crowd.turned_away = 0
        yield numbered
        if not log.unnumbered():
            return
        gather = _GATHER


def sequence() -> Numbered | None:
    """Number every committed event that has no position; return None where somebody else is at it."""
    done = None
    for numbered in rounds():
        done = Numbered(numbered.head, numbered.events + (done.events if done else 0))
    return done
