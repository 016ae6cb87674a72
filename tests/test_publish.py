"""The door, the transaction and what is told. (The wire's own door tests are in tests/wire.)"""

from __future__ import annotations

import asyncio
import datetime
import logging
import threading
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.db import connection, connections, transaction
from django.db.utils import OperationalError

from django_sse import asend_event, asend_events, publish, send_event, send_events
from django_sse.brokers.local import LocalBroker
from django_sse.exceptions import InvalidChannel, InvalidEvent
from django_sse.models import Event, Head


class RecordingBroker(LocalBroker):
    """What a publisher told, in order."""

    told: list[Any]

    def notify(self, position: int) -> None:
        self.told.append(position)

    def send(self, channel: str, type: str, data: str) -> None:
        self.told.append((channel, type, data))


@pytest.fixture
def told(settings: Any) -> list[Any]:
    settings.DJANGO_SSE = {"BROKER": {"BACKEND": f"{__name__}.RecordingBroker"}}
    RecordingBroker.told = []
    return RecordingBroker.told


def stored() -> list[tuple[int | None, str]]:
    return list(Event.objects.order_by("id").values_list("position", "data"))


def test_outside_a_transaction_an_event_has_its_position_at_once(committed: None, told: list[Any]) -> None:
    event = send_event("orders", "status", {"id": 7, "state": "shipped"})
    assert event is not None
    event.refresh_from_db()
    assert (event.position, event.channel, event.type) == (1, "orders", "status")
    assert event.data == '{"id":7,"state":"shipped"}'
    assert told == [1]


def test_in_a_transaction_it_is_numbered_and_told_after_commit(committed: None, told: list[Any]) -> None:
    with transaction.atomic():
        event = send_event("orders", "status", 1)
        assert event is not None
        assert event.pk is not None
        assert event.position is None
        assert told == []
    assert stored() == [(1, "1")]
    assert told == [1]


def test_one_transaction_is_numbered_and_told_once(committed: None, told: list[Any]) -> None:
    with transaction.atomic():
        for number in range(3):
            send_event("orders", None, number)
    assert stored() == [(1, "0"), (2, "1"), (3, "2")]
    assert told == [3]
    with transaction.atomic():
        send_event("orders", None, 3)
    assert told == [3, 4]


def test_rolled_back_it_never_was(committed: None, told: list[Any]) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        send_event("orders", None, "phantom")
        send_event("orders", None, "passing phantom", store=False)
        raise ZeroDivisionError
    assert stored() == []
    assert told == []
    with transaction.atomic():
        send_event("orders", None, "real")
    assert stored() == [(1, '"real"')]
    assert told == [1]


def test_a_savepoint_takes_back_its_own_events_alone(committed: None, told: list[Any]) -> None:
    with transaction.atomic():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            send_event("orders", None, "phantom")
            raise ZeroDivisionError
        send_event("orders", None, "real")
    assert stored() == [(1, '"real"')]
    assert told == [1]


def test_a_savepoint_that_comes_first_does_not_swallow_the_ring(committed: None, told: list[Any]) -> None:
    with transaction.atomic():
        send_event("orders", None, 1)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            send_event("orders", None, 2)
            raise ZeroDivisionError
    assert stored() == [(1, "1")]
    assert told == [1]


def test_transactions_by_hand_are_numbered_by_the_next_publisher(committed: None, told: list[Any]) -> None:
    transaction.set_autocommit(False)
    try:
        send_event("orders", None, 1)
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert stored() == [(None, "1")]
    send_event("orders", None, 2)
    assert stored() == [(1, "1"), (2, "2")]
    assert told == [2]


def test_positions_are_right_when_others_rows_are_waiting(committed: None) -> None:
    Event.objects.create(channel="other", data="waiting")
    event = send_event("orders", None, 1)
    assert event is not None
    assert event.position == 2
    assert stored() == [(1, "waiting"), (2, "1")]


def test_an_event_that_cannot_be_numbered_now_is_not_an_error_for_its_sender(
    committed: None, told: list[Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise OperationalError("the database has gone")

    with monkeypatch.context() as patch:
        patch.setattr(publish, "rounds", refuse)
        with transaction.atomic():
            send_event("orders", None, 1)
    assert stored() == [(None, "1")]
    assert told == []
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    send_event("orders", None, 2)
    assert stored() == [(1, "1"), (2, "2")]


def test_ephemeral_events_leave_no_row(committed: None, told: list[Any]) -> None:
    assert send_event("orders", "typing", {"who": "Ann"}, store=False) is None
    assert stored() == []
    assert told == [("orders", "typing", '{"who":"Ann"}')]


def test_many_go_in_one_insert_in_their_order(
    committed: None, told: list[Any], django_assert_max_num_queries: Any
) -> None:
    send_event("orders", None, "the head is made")
    with django_assert_max_num_queries(12):  # BEGIN and SET among them
        events = send_events(
            [
                ("orders", "status", 1),
                {"channel": "stock", "text": "<b>2</b>"},
                {"channel": "orders", "event_type": "typing", "data": 3, "store": False},
                *[("orders", None, number) for number in range(4, 100)],
            ]
        )
    assert [event.position if event else None for event in events[:4]] == [2, 3, None, 4]
    assert len(events) == 99
    assert told[1:] == [99, ("orders", "typing", "3")]


def test_one_bad_event_stops_them_all(committed: None, told: list[Any]) -> None:
    with pytest.raises(InvalidChannel):
        send_events([("orders", None, 1), ("no spaces", None, 2)])
    assert stored() == []
    assert send_events([]) == []
    assert told == []


class TestKey:
    def test_a_retry_returns_the_first(self, committed: None) -> None:
        first = send_event("orders", None, 1, key="payment-7")
        again = send_event("orders", None, 2, key="payment-7")
        assert first is not None
        assert again is not None
        assert (again.pk, again.position, again.data) == (first.pk, 1, "1")
        assert stored() == [(1, "1")]

    def test_it_is_the_channels_own(self, committed: None) -> None:
        send_events([{"channel": channel, "data": 1, "key": "k"} for channel in ("a", "b", "A")])
        send_event("a", None, 1, key="K")
        assert Event.objects.count() == 4

    def test_within_one_batch_too(self, committed: None) -> None:
        events = send_events([{"channel": "a", "data": number, "key": "k"} for number in (1, 2)])
        assert [event.data for event in events if event] == ["1", "1"]

    def test_a_batch_of_both_kinds_keeps_its_order_and_knows_its_positions(self, committed: None) -> None:
        keys = [None, None, "k", "l", None, "k", None]
        events = send_events([{"channel": "a", "data": place, "key": key} for place, key in enumerate(keys)])
        assert [event.position for event in events if event] == [1, 2, 3, 4, 5, 3, 6]
        assert stored() == [(1, "0"), (2, "1"), (3, "2"), (4, "3"), (5, "4"), (6, "6")]

    def test_the_callers_transaction_survives_a_repeat(self, committed: None) -> None:
        send_event("orders", None, 1, key="k")
        with transaction.atomic():
            send_event("orders", None, 2, key="k")
            send_event("orders", None, 3)
        assert stored() == [(1, "1"), (2, "3")]

    @pytest.mark.parametrize("key", ["", "a b", "é", "x" * 201, 7, "a\n"])
    def test_it_is_visible_ascii(self, key: Any) -> None:
        with pytest.raises(InvalidEvent, match="visible ASCII"):
            send_event("orders", None, 1, key=key)

    def test_it_needs_a_row(self) -> None:
        with pytest.raises(InvalidEvent, match="stored event"):
            send_event("orders", None, 1, key="k", store=False)


class TestData:
    @pytest.mark.parametrize(
        ("data", "text"),
        [
            (None, "null"),
            ([1, 2.5, True], "[1,2.5,true]"),
            ("é\u2028", '"é\u2028"'),
            (Decimal("7.50"), '"7.50"'),
            (datetime.date(2026, 11, 22), '"2026-11-22"'),
            (UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        ],
    )
    def test_any_json_value_of_django(self, committed: None, data: Any, text: str) -> None:
        event = send_event("orders", None, data)
        assert event is not None
        assert event.data == text

    @pytest.mark.parametrize("data", [object(), float("nan"), float("inf"), {1, 2}, {(1, 2): 3}])
    def test_what_is_not_json_is_refused(self, data: Any) -> None:
        with pytest.raises(InvalidEvent, match="data is not a JSON value"):
            send_event("orders", None, data)

    def test_a_structure_without_end_is_refused(self) -> None:
        endless: list[Any] = []
        endless.append(endless)
        with pytest.raises(InvalidEvent, match="data is not a JSON value"):
            send_event("orders", None, endless)

    def test_text_must_be_text(self) -> None:
        with pytest.raises(InvalidEvent, match="text is a dict, not a str"):
            send_event("orders", text={"a": 1})  # type: ignore[arg-type]

    @pytest.mark.parametrize("event_type", ["", 7, "x" * 101])
    def test_a_type_is_a_short_text(self, event_type: Any) -> None:
        with pytest.raises(InvalidEvent, match="1 to 100 characters"):
            send_event("orders", event_type, 1)


class TestAsync:
    async def test_in_a_loop_the_async_twin_does_the_same(self, committed: None) -> None:
        event = await asend_event("orders", "status", 1)
        assert event is not None
        assert event.position == 1
        events = await asend_events([("orders", None, 2), {"channel": "orders", "text": "3"}])
        assert [event.position for event in events if event] == [2, 3]

    async def test_in_a_loop_the_sync_one_names_its_twin(self) -> None:
        with pytest.raises(SynchronousOnlyOperation, match="await asend_event"):
            send_event("orders", None, 1)

    async def test_an_ephemeral_event_needs_no_thread(self, told: list[Any]) -> None:
        send_event("orders", None, 1, store=False)
        assert told == [("orders", "message", "1")]


def test_from_many_threads_positions_have_no_gap_and_no_repeat(committed: None) -> None:
    def publish_some(name: int) -> None:
        try:
            for number in range(20):
                if number % 3:
                    send_event("orders", None, [name, number])
                else:
                    with transaction.atomic():
                        send_event("orders", None, [name, number])
        finally:
            connection.close()

    threads = [threading.Thread(target=publish_some, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(position or 0 for position, _ in stored()) == list(range(1, 81))
    assert Head.objects.get().position == 80


def test_a_broker_that_cannot_be_made_is_an_error_before_anything_is_stored(committed: None, settings: Any) -> None:
    settings.DJANGO_SSE = {"BROKER": {"BACKEND": "django_sse.brokers.nothing.Broker"}}
    with pytest.raises(ImproperlyConfigured, match="BROKER"):
        send_event("orders", None, 1)
    assert stored() == []


def test_from_a_coroutine_on_another_loop(committed: None) -> None:
    async def publish_one() -> None:
        await asend_event("orders", None, 1)
        await sync_to_async(connections.close_all)()

    thread = threading.Thread(target=asyncio.run, args=[publish_one()])
    thread.start()
    thread.join()
    assert [data for _, data in stored()] == ["1"]
