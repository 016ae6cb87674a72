"""Positions are commit order, whatever the order of insertion."""

from __future__ import annotations

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connection, transaction

from django_sse import log, send_event, sequencer
from django_sse.brokers import get_broker
from django_sse.models import Event
from django_sse.reader import PAGE, look
from django_sse.sequencer import number, sequence

if connection.vendor == "postgresql":
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

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


@contextmanager
def another_at_it() -> Iterator[None]:
    """Another connection holds what is held while positions are given."""
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        try:
            with transaction.atomic():
                assert number() is not None
                held.set()
                release.wait(30)
        finally:
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    try:
        yield
    finally:
        release.set()
        thread.join(30)


@several_writers
@pytest.mark.parametrize("in_transaction", [True, False])
def test_nobody_waits_for_another_who_is_at_it(in_transaction: bool) -> None:
    send_event("a", None, 0)  # makes the head
    with another_at_it():
        with transaction.atomic() if in_transaction else nullcontext():
            event = send_event("a", None, 1)
        assert event is not None
        assert event.position is None
        assert sequence() is None
    assert sequence() == (2, 1)


@several_writers
def test_who_was_at_it_numbers_those_who_left_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    real, late = sequencer.number, ["came meanwhile"]

    def number_and_let_another_come(gather: float) -> Any:
        numbered = real(gather)
        if late:
            Event.objects.create(channel="a", data=late.pop())
        return numbered

    monkeypatch.setattr(sequencer, "number", number_and_let_another_come)
    with transaction.atomic():
        send_event("a", None, 1)
    assert sorted(Event.objects.values_list("position", "data")) == [(1, "1"), (2, "came meanwhile")]


def server_sleeps() -> bool:
    """Whether PostgreSQL keeps somebody waiting with the lock held. (For MySQL its client waits.)"""
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")
        return cursor.fetchone() is not None


@several_writers
def test_who_was_turned_away_gathers_when_its_turn_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequencer, "_GATHER_EACH", 2)
    monkeypatch.setattr(sequencer, "_GATHER_MOST", 4)
    send_event("a", None, 0)  # makes the head
    sequence()
    with another_at_it():
        assert sequence() is None
    client_sleeps = threading.Event()

    def sleep(seconds: float) -> None:
        client_sleeps.set()
        time.sleep(seconds)

    monkeypatch.setattr(sequencer, "time", SimpleNamespace(sleep=sleep))
    with ThreadPoolExecutor(1) as thread:

        def gather() -> Any:
            try:
                return next(sequencer.rounds())
            finally:
                connection.close()

        gathered = thread.submit(gather)
        while not (client_sleeps.is_set() or server_sleeps()):
            assert not gathered.done(), "it did not gather"
        Event.objects.create(channel="a", data="came meanwhile")
        assert gathered.result(30) == (2, 1)


@pytest.mark.parametrize(("turned_away", "seconds"), [(0, 0), (1, 0.001), (9, 0.009), (10, 0.01), (1000, 0.01)])
def test_the_more_there_are_the_longer_it_gathers(
    turned_away: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def note(gather: float) -> None:
        given.append(gather)

    monkeypatch.setattr(sequencer, "number", note)
    monkeypatch.setattr(sequencer._crowd, "turned_away", turned_away)
    assert sequence() is None
    assert given == [pytest.approx(seconds)]
    assert sequencer._crowd.turned_away == turned_away + 1


@contextmanager
def connected(isolation: str | None) -> Iterator[None]:
    """Give this thread's connection, which is not open yet, that isolation level; close it at the end."""
    settings = connection.settings_dict
    if isolation:
        level: Any = isolation
        if connection.vendor == "postgresql":
            level = IsolationLevel[isolation.upper().replace(" ", "_")]
        # A copy: all threads' connections, and those of later tests, are made by one dict.
        connection.settings_dict = {**settings, "OPTIONS": {**settings["OPTIONS"], "isolation_level": level}}
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict = settings


@several_writers
@pytest.mark.parametrize("isolation", [None, "repeatable read", "serializable"])
@pytest.mark.parametrize("in_transaction", [True, False])
def test_many_publishers_leave_no_gap(isolation: str | None, in_transaction: bool, caplog: Any) -> None:
    send_event("a", None, [6, 0])  # makes the head

    def publish(writer: int) -> None:
        with connected(isolation):
            for turn in range(40):
                with transaction.atomic() if in_transaction else nullcontext():
                    send_event("a", None, [writer, turn])

    threads = [threading.Thread(target=publish, args=(writer,)) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    sequence()
    rows = list(Event.objects.order_by("position").values_list("position", "data"))
    assert [position for position, _ in rows] == list(range(1, 242))
    for writer in range(6):
        turns = [turn for who, turn in (json.loads(data) for _, data in rows) if who == writer]
        assert turns == list(range(40))
    assert not caplog.records


class Undone(Exception):
    pass


def write_at_random(writer: int, committed: list[tuple[int, str]]) -> None:
    """Publish in transactions and savepoints, some of which are undone; note what was committed after which head."""
    chance = random.Random(writer)
    for turn in range(25):
        kept: list[str] = []
        with suppress(Undone), transaction.atomic():
            for step in range(chance.randrange(1, 4)):
                text = f"{writer}.{turn}.{step}"
                with suppress(Undone), transaction.atomic() if chance.random() < 0.5 else nullcontext():
                    send_event("a", text=text)
                    if connection.savepoint_ids and chance.random() < 0.4:
                        raise Undone
                    kept.append(text)
                time.sleep(chance.random() * 0.005)
            if chance.random() < 0.2:
                kept.clear()
                raise Undone
            head = log.reach().head
        committed += [(head, text) for text in kept]


@several_writers
@pytest.mark.parametrize("isolation", [None, "repeatable read"])
def test_whatever_is_undone_positions_are_those_of_what_was_committed(isolation: str | None) -> None:
    send_event("a", text="makes the head")
    committed: list[tuple[int, str]] = [(0, "makes the head")]
    failures: list[BaseException] = []

    def write(writer: int) -> None:
        try:
            with connected(isolation):
                write_at_random(writer, committed)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(8)]
    for thread in threads:
        thread.start()
    cursor, read = 0, []
    while any(thread.is_alive() for thread in threads) or cursor < log.reach().head or log.unnumbered():
        reach, frames = look(cursor, True)
        read += frames
        cursor = frames[-1].position if len(frames) == PAGE else max(cursor, reach.head)
        time.sleep(0.002)
    assert failures == []
    assert [frame.position for frame in read] == list(range(1, len(committed) + 1)), "no gap, as a reader sees it"
    position = dict(Event.objects.values_list("data", "position"))
    assert position.keys() == {text for _, text in committed}
    assert all(position[text] > head for head, text in committed), "nothing comes before what was readable already"


def test_a_dedicated_sequencer_numbers_for_all(settings: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    settings.DJANGO_SSE = {"DEDICATED_SEQUENCER": True}
    told: list[int] = []
    monkeypatch.setattr(get_broker(), "notify", told.append)
    event = send_event("a", None, 1)
    with transaction.atomic():
        send_event("a", None, 2)
    assert event is not None
    assert event.position is None
    assert told == []
    call_command("sse_sequencer", count=2)
    assert list(Event.objects.order_by("position").values_list("position", "data")) == [(1, "1"), (2, "2")]
    assert told == [2]
    assert "does not cross processes" in capsys.readouterr().err


@pytest.mark.parametrize("fault", [OperationalError, InterfaceError])
def test_a_dedicated_sequencer_outlives_its_connection(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, fault: type[Exception]
) -> None:
    Event.objects.create(channel="a", data="1")
    faults = [fault("the connection is closed")]
    unnumbered = log.unnumbered

    def fail_once() -> bool:
        if faults:
            raise faults.pop()
        return unnumbered()

    monkeypatch.setattr(log, "unnumbered", fail_once)
    monkeypatch.setattr("django_sse.management.commands.sse_sequencer.time.sleep", lambda seconds: None)
    call_command("sse_sequencer", count=1)
    assert Event.objects.get().position == 1
    assert "trying again: the connection is closed" in capsys.readouterr().err
