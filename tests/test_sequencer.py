"""Positions are commit order, whatever the order of insertion."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connection, transaction

from django_sse import send_event
from django_sse.models import Event
from django_sse.sequencer import sequence

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.django_db(transaction=True)

several_writers = pytest.mark.skipif(
    "connection.vendor == 'sqlite'", reason="SQLite has one writer at a time: nothing can commit in another order"
)


@contextmanager
def open_transaction(data: str) -> Iterator[Any]:
    """Another connection has inserted an event and not committed; it does when the block calls what it is given."""
    inserted, go = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                send_event("a", None, data)
                inserted.set()
                go.wait(30)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert inserted.wait(30)

    def commit() -> None:
        go.set()
        thread.join(30)
        assert not thread.is_alive()

    try:
        yield commit
    finally:
        commit()


def test_an_empty_log_needs_no_positions() -> None:
    assert sequence() == (0, 0)


def test_a_batch_keeps_its_order_of_insertion() -> None:
    Event.objects.bulk_create([Event(channel="a", data=str(number)) for number in range(1200)])
    assert sequence() == (1200, 1200)
    assert list(Event.objects.order_by("position").values_list("data", flat=True)) == [str(n) for n in range(1200)]


@several_writers
def test_an_open_transaction_delays_only_its_own_events() -> None:
    with open_transaction("slow") as commit:
        first = send_event("a", None, "quick")
        with transaction.atomic():
            send_event("a", None, "quick too")
        assert first is not None
        assert first.position == 1
        commit()
    rows = list(Event.objects.order_by("position").values_list("position", "data"))
    assert rows == [(1, '"quick"'), (2, '"quick too"'), (3, '"slow"')]


@several_writers
def test_a_reader_that_stands_after_the_early_one_gets_the_late_one() -> None:
    with open_transaction("inserted first") as commit:
        early = send_event("a", None, "inserted second")
        assert early is not None
        cursor = early.position
        commit()
    after = Event.objects.filter(position__gt=cursor)
    assert [event.data for event in after] == ['"inserted first"']
    assert after[0].pk < early.pk
