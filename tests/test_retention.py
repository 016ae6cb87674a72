from __future__ import annotations

import datetime
import threading
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from django_sse import log, retention, send_event
from django_sse.models import Event
from django_sse.reader import look, page
from django_sse.sequencer import number
from tests.test_log import positions, publish
from tests.test_sequencer import open_transaction, several_writers

pytestmark = pytest.mark.django_db(transaction=True)


class TestTrim:
    def test_by_count(self) -> None:
        publish(10)
        assert retention.trim(keep=4) == 6
        assert positions() == [7, 8, 9, 10]
        assert log.reach() == (6, 10, 0)
        assert retention.trim(keep=4) == 0

    def test_by_age_in_batches(self) -> None:
        publish(10)
        Event.objects.filter(position__lte=7).update(created_at=timezone.now() - datetime.timedelta(days=8))
        assert retention.trim(older_than=datetime.timedelta(days=7), batch=3) == 7
        assert positions() == [8, 9, 10]
        assert log.reach() == (7, 10, 0)

    def test_the_oldest_that_is_young_keeps_all_after_it(self) -> None:
        publish(4)
        Event.objects.exclude(position=2).update(created_at=timezone.now() - datetime.timedelta(days=8))
        assert retention.trim(older_than=datetime.timedelta(days=7)) == 1
        assert positions() == [2, 3, 4]

    def test_it_does_not_run_after_publishers(self, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(3)
        delete = retention._delete_rows

        def delete_and_publish(pks: Any) -> int:
            publish(1)
            return delete(pks)

        monkeypatch.setattr(retention, "_delete_rows", delete_and_publish)
        assert retention.trim(keep=0) == 3
        assert positions() == [4]

    def test_everything(self) -> None:
        publish(3)
        assert retention.trim(keep=0) == 3
        assert log.reach() == (3, 3, 0)
        send_event("a", None, "next")
        assert positions() == [4]

    def test_what_is_not_numbered_yet_stays(self) -> None:
        publish(2)
        Event.objects.create(channel="a", data="waiting")
        assert retention.trim(keep=0) == 2
        assert positions() == [None]

    def test_what_a_rebase_has_left_behind_the_floor(self) -> None:
        publish(5)
        retention.rebase(1000)
        publish(1)
        assert retention.trim(keep=1, batch=2) == 5
        assert positions() == [1001]
        assert log.reach() == (1000, 1001, 0)

    def test_what_a_process_that_died_has_left_behind_the_floor(self, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(5)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(retention, "_delete_rows", lambda pks: (_ for _ in ()).throw(KeyboardInterrupt))
            retention.trim(keep=3)
        assert log.reach() == (2, 5, 0)
        assert len(positions()) == 5
        assert retention.trim(keep=3) == 2
        assert positions() == [3, 4, 5]

    def test_who_reads_meanwhile_misses_nothing_without_being_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        publish(10)
        looks: list[list[int]] = []
        delete = retention._delete_rows

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

        monkeypatch.setattr(retention, "_delete_rows", delete_and_read)
        assert retention.trim(keep=2, batch=3) == 8
        assert [rows[0] for rows in looks] == [1, 4, 4, 7, 7, 9]


def trim() -> None:
    assert retention.trim(keep=2) == 8


def purge() -> None:
    assert retention.purge("a") == 10


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
    delete_rows = retention._delete_rows

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

    monkeypatch.setattr(retention, "_delete_rows", delete_while_another_numbers)
    delete()
    assert numbered == [(11, 1)]


def test_a_purge_is_told_after_the_last_row_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    publish(2)
    Event.objects.create(channel="a", data="waiting")
    told: list[int] = []
    delete = retention._delete_rows

    def delete_and_look(pks: Any) -> int:
        deleted = delete(pks)
        told.append(log.reach().generation)
        return deleted

    monkeypatch.setattr(retention, "_delete_rows", delete_and_look)
    assert retention.purge("a") == 3
    assert told == [0]
    assert log.reach() == (0, 2, 1)
    assert positions() == []
