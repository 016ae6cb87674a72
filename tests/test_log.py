from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction

from django_sse import aget_head, asend_event, log, send_event, send_events
from django_sse.models import Event, Head
from django_sse.sequencer import sequence

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
