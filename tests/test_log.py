from __future__ import annotations

import datetime
import threading
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from django_sse import aget_head, asend_event, log, send_event, send_events
from django_sse.models import Event, Head
from django_sse.reader import look, page
from django_sse.sequencer import number, sequence
from tests.test_sequencer import open_transaction, several_writers

pytestmark = pytest.mark.django_db(transaction=True)


def publish(count: int, channel: str = "a") -> None:
    send_events([(channel, None, number) for number in range(count)])


def positions() -> list[int | None]:
    return list(Event.objects.order_by("id").values_list("position", flat=True))


async def test_the_head_is_the_cursor_of_whoever_has_seen_everything() -> None:
    assert await aget_head() == 0
    await asend_event("a", None, 1)
    assert await aget_head() == 1


def test_an_empty_log_reaches_from_nothing_to_nothing() -> None:
    assert log.reach() == (0, 0, 0)
    assert log.after(0, None, 10) == []
    assert not log.unnumbered()


def test_after_is_bounded_and_filtered() -> None:
    publish(3)
    publish(3, "b")
    publish(2)
    assert [event.position for event in log.after(1, {"a"}, 10)] == [2, 3, 7, 8]
    assert [event.position for event in log.after(1, {"a", "b"}, 3)] == [2, 3, 4]
    assert [event.position for event in log.after(5, None, 10, upto=7)] == [6, 7]
    assert log.after(0, {"c"}, 10) == []


def test_the_cursor_before_the_last_events() -> None:
    publish(5)
    publish(1, "b")
    assert log.cursor_before_last({"a"}, 2) == 3
    assert log.cursor_before_last({"a", "b"}, 2) == 4
    assert log.cursor_before_last({"a"}, 50) == 0
    assert log.cursor_before_last({"c"}, 2) is None


@pytest.mark.parametrize("count", [1, 2])
def test_what_is_appended_is_what_is_in_the_log(count: int) -> None:
    """One event takes a shorter way into PostgreSQL than many."""
    for event in log.append([Event(channel="a", type="x", data="\0 \x10 \U0001f600") for _ in range(count)]):
        stored = Event.objects.get(pk=event.pk)
        names = [field.attname for field in Event._meta.concrete_fields if field.attname != "created_at"]
        assert [getattr(event, name) for name in names] == [getattr(stored, name) for name in names]
        assert event._state.adding is False
        assert event._state.db == stored._state.db
        event.refresh_from_db()
        assert event.created_at == stored.created_at
        event.delete()
    assert not Event.objects.exists()


@pytest.mark.skipif("connection.vendor != 'postgresql'")
def test_one_event_comes_back_with_the_time_at_which_it_was_created() -> None:
    (event,) = log.append([Event(channel="a", data="1")])
    assert event.__dict__["created_at"] == Event.objects.get().created_at


def test_rows_without_a_position_are_not_there_yet() -> None:
    publish(1)
    Event.objects.create(channel="a", data="waiting")
    assert log.unnumbered()
    assert len(log.after(0, None, 10)) == 1
    assert log.cursor_before_last({"a"}, 1) == 0
    assert sequence() == (2, 1)
    assert sequence() == (2, 0)
    assert not log.unnumbered()
    assert positions() == [1, 2]


def test_a_head_that_was_lost_goes_on_after_the_last_position() -> None:
    publish(3)
    Head.objects.all().delete()
    publish(1)
    assert positions() == [1, 2, 3, 4]
    assert log.reach() == (0, 4, 0)


class TestTrim:
    def test_by_count(self) -> None:
        publish(10)
        assert log.trim(keep=4) == 6
        assert positions() == [7, 8, 9, 10]
        assert log.reach() == (6, 10, 0)
        assert log.trim(keep=4) == 0

    def test_by_age_in_batches(self) -> None:
        publish(10)
        Event.objects.filter(position__lte=7).update(created_at=timezone.now() - datetime.timedelta(days=8))
        assert log.trim(older_than=datetime.timedelta(days=7), batch=3) == 7
        assert positions() == [8, 9, 10]
        assert log.reach() == (7, 10, 0)

    def test_the_oldest_that_is_young_keeps_all_after_it(self) -> None:
        publish(4)
        Event.objects.exclude(position=2).update(created_at=timezone.now() - datetime.timedelta(days=8))
        assert log.trim(older_than=datetime.timedelta(days=7)) == 1
        assert positions() == [2, 3, 4]

    def test_it_does_not_run_after_publishers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(3)
        delete = log._delete_rows

        def delete_and_publish(pks: Any) -> int:
            publish(1)
            return delete(pks)

        monkeypatch.setattr(log, "_delete_rows", delete_and_publish)
        assert log.trim(keep=0) == 3
        assert positions() == [4]

    def test_everything(self) -> None:
        publish(3)
        assert log.trim(keep=0) == 3
        assert log.reach() == (3, 3, 0)
        send_event("a", None, "next")
        assert positions() == [4]

    def test_what_is_not_numbered_yet_stays(self) -> None:
        publish(2)
        Event.objects.create(channel="a", data="waiting")
        assert log.trim(keep=0) == 2
        assert positions() == [None]

    def test_what_a_rebase_has_left_behind_the_floor(self) -> None:
        publish(5)
        log.rebase(1000)
        publish(1)
        assert log.trim(keep=1, batch=2) == 5
        assert positions() == [1001]
        assert log.reach() == (1000, 1001, 0)

    def test_what_a_process_that_died_has_left_behind_the_floor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(5)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(log, "_delete_rows", lambda pks: (_ for _ in ()).throw(KeyboardInterrupt))
            log.trim(keep=3)
        assert log.reach() == (2, 5, 0)
        assert len(positions()) == 5
        assert log.trim(keep=3) == 2
        assert positions() == [3, 4, 5]

    def test_who_reads_meanwhile_misses_nothing_without_being_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(10)
        looks: list[list[int]] = []
        delete = log._delete_rows

        def read() -> None:
            for cursor in range(11):
                reach, frames = look(cursor, False)
                if reach.floor <= cursor:
                    assert [frame.position for frame in frames] == list(range(cursor + 1, 11))
                    assert page(cursor, frozenset("a"), 10, 100).events == 10 - cursor
                else:
                    with pytest.raises(LookupError):
                        page(cursor, frozenset("a"), 10, 100)
            looks.append([position for position in positions() if position])

        def delete_and_read(pks: Any) -> int:
            read()
            deleted = delete(pks)
            read()
            return deleted

        monkeypatch.setattr(log, "_delete_rows", delete_and_read)
        assert log.trim(keep=2, batch=3) == 8
        assert [rows[0] for rows in looks] == [1, 4, 4, 7, 7, 9]


def trim() -> None:
    assert log.trim(keep=2) == 8


def purge() -> None:
    assert log.purge("a") == 10


@several_writers
@pytest.mark.parametrize("first", [True, False], ids=["inserted first", "inserted last"])
@pytest.mark.parametrize("delete", [trim, purge])
def test_who_deletes_waits_for_no_open_transaction(delete: Any, first: bool) -> None:
    if not first:
        publish(10)
    with open_transaction("slow") as commit:
        if first:
            publish(10)
        try:
            if connection.vendor == "mysql":
                with connection.cursor() as cursor:
                    cursor.execute("SET SESSION innodb_lock_wait_timeout = 1")
            delete()
        finally:
            connection.close()  # and its session with it: no later test has so little patience
        commit()
    assert positions().count(11) == 1


@several_writers
@pytest.mark.parametrize("delete", [trim, purge])
def test_numbering_does_not_wait_for_who_deletes(delete: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(10)
    numbered: list[Any] = []
    delete_rows = log._delete_rows

    def another() -> None:
        try:
            with transaction.atomic():
                Event.objects.create(channel="b", data="meanwhile")
            numbered.append(number())
        finally:
            connection.close()

    def delete_while_another_numbers(pks: Any) -> int:
        with transaction.atomic():
            deleted = delete_rows(pks)
            if not numbered:
                thread = threading.Thread(target=another)
                thread.start()
                thread.join(10)
        return deleted

    monkeypatch.setattr(log, "_delete_rows", delete_while_another_numbers)
    delete()
    assert numbered == [(11, 1)]


def test_a_purge_is_told_after_the_last_row_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(2)
    Event.objects.create(channel="a", data="waiting")
    told: list[int] = []
    delete = log._delete_rows

    def delete_and_look(pks: Any) -> int:
        deleted = delete(pks)
        told.append(log.reach().generation)
        return deleted

    monkeypatch.setattr(log, "_delete_rows", delete_and_look)
    assert log.purge("a") == 3
    assert told == [0]
    assert log.reach() == (0, 2, 1)
    assert positions() == []


def test_the_lock_needs_a_transaction_of_its_own() -> None:
    publish(1)
    with transaction.atomic():
        assert log.lock() == (0, 1, 0)


@pytest.mark.parametrize(
    "text", ["", "\x00", "\x10", "\x100", "\x10\x00", "\x00\x10\x10\x000", "a\x00b\x10c", "é\U0001f600"]
)
def test_every_text_comes_back_from_the_database(text: str) -> None:
    send_event("a", text=text)
    assert Event.objects.get().data == text
    assert Event.objects.filter(data=text).count() == 1


def test_names_are_compared_to_the_letter(settings: Any) -> None:
    for channel in ("Orders", "orders", "orders.", "orders.1", "orders.01"):
        send_event(channel, None, channel)
        assert [event.data for event in log.after(0, {channel}, 10)] == [f'"{channel}"']


def test_rows_say_what_they_are() -> None:
    publish(1)
    Event.objects.create(channel="b", data="waiting")
    assert [str(event) for event in Event.objects.order_by("id")] == ["1 a message", "unnumbered b message"]
    assert str(Head.objects.get()) == "0 to 1"
    assert connection.vendor in ("sqlite", "postgresql", "mysql")
