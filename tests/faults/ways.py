"""Every way in which a transaction with an event may end: ``python -m tests.faults.ways``.

Prints one line for each: its name, the event's text, and whether it was committed.
"""

from __future__ import annotations

import asyncio
from inspect import isfunction
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import django

if TYPE_CHECKING:
    from collections.abc import Callable

CHANNEL = "public.ways"


class Failure(Exception):
    """Of the code around ``send_event``."""


def _ways() -> dict[str, Callable[[str], bool]]:
    from django.db import DatabaseError, IntegrityError, connection, transaction

    from django_sse import asend_event, send_event, send_events

    def send(text: str) -> None:
        assert send_event(CHANNEL, text=text) is not None

    def fail(text: str) -> None:
        send(text)
        raise Failure

    def suppressed(kind: type[Exception], work: Callable[[], Any]) -> None:
        try:
            work()
        except kind:
            return
        raise AssertionError("it was to fail")

    def autocommit(text: str) -> bool:
        send(text)
        return True

    def autocommit_then_failure(text: str) -> bool:
        """What is committed stays so, whatever comes after."""
        suppressed(Failure, lambda: fail(text))
        return True

    def atomic(text: str) -> bool:
        with transaction.atomic():
            send(text)
        return True

    def atomic_failed(text: str) -> bool:
        suppressed(Failure, lambda: transaction.atomic(fail)(text))
        return False

    def durable(text: str) -> bool:
        with transaction.atomic(durable=True):
            send(text)
        return True

    def durable_failed(text: str) -> bool:
        suppressed(Failure, lambda: transaction.atomic(durable=True)(fail)(text))
        return False

    def savepoint(text: str) -> bool:
        with transaction.atomic(), transaction.atomic():
            send(text)
        return True

    def savepoint_failed(text: str) -> bool:
        with transaction.atomic():
            suppressed(Failure, lambda: transaction.atomic(fail)(text))
        return False

    def savepoint_kept_and_outer_failed(text: str) -> bool:
        @transaction.atomic
        def outer() -> None:
            with transaction.atomic():
                send(text)
            raise Failure

        suppressed(Failure, outer)
        return False

    def on_commit(text: str) -> bool:
        """Published from a hook, after the commit: in autocommit."""
        with transaction.atomic():
            transaction.on_commit(lambda: send(text))
        return True

    def on_commit_of_a_failed_one(text: str) -> bool:
        @transaction.atomic
        def outer() -> None:
            transaction.on_commit(lambda: send(text))
            raise Failure

        suppressed(Failure, outer)
        return False

    def a_hook_before_ours_fails(text: str) -> bool:
        """Django calls no more hooks, so nobody numbers the event: the poll does."""

        def hook() -> None:
            raise Failure

        @transaction.atomic
        def outer() -> None:
            transaction.on_commit(hook)
            send(text)

        suppressed(Failure, outer)
        return True

    def the_commit_itself_fails(text: str) -> bool:
        """A constraint that is checked at the COMMIT."""

        @transaction.atomic
        def outer() -> None:
            with connection.cursor() as cursor:
                cursor.execute("CREATE TEMPORARY TABLE once (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
                cursor.execute("INSERT INTO once VALUES (1), (1)")
            send(text)

        suppressed(IntegrityError, outer)
        return False

    def the_session_ends_before_the_commit(text: str) -> bool:
        @transaction.atomic
        def outer() -> None:
            send(text)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

        suppressed(DatabaseError, outer)
        connection.close()
        return False

    def by_hand(text: str) -> bool:
        transaction.set_autocommit(False)
        try:
            send(text)
            transaction.commit()
        finally:
            transaction.set_autocommit(True)
        return True

    def by_hand_rolled_back(text: str) -> bool:
        transaction.set_autocommit(False)
        try:
            send(text)
            transaction.rollback()
        finally:
            transaction.set_autocommit(True)
        return False

    def serializable(text: str) -> bool:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            send(text)
        return True

    def batch_failed(text: str) -> bool:
        @transaction.atomic
        def outer() -> None:
            send_events([(CHANNEL, None, text), (CHANNEL, None, f"{text}-second")])
            raise Failure

        suppressed(Failure, outer)
        return False

    def in_a_loop(text: str) -> bool:
        assert asyncio.run(asend_event(CHANNEL, text=text)) is not None
        return True

    def again_with_its_key(text: str) -> bool:
        for _ in range(2):
            send_event(CHANNEL, text=text, key=text)
        return True

    helpers = {send, fail, suppressed}
    mine = [value for value in locals().values() if isfunction(value) and value.__module__ == __name__]
    return {function.__name__: function for function in mine if function not in helpers}


def main() -> None:
    django.setup()
    for name, way in _ways().items():
        text = uuid4().hex[:16]
        print(name, text, way(text), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main()
