from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import FieldDoesNotExist
from django.core.management import call_command
from django.db import transaction

from django_sse import signals
from django_sse.models import Event
from django_sse.testing import capture_events
from tests.shop.models import Order

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from django_sse.signals import Broadcast

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def broadcast() -> Iterator[Any]:
    wires: list[Broadcast] = []

    def connect(*args: Any, **kwargs: Any) -> Broadcast:
        wires.append(signals.broadcast(Order, *args, **kwargs))
        return wires[-1]

    yield connect
    for wire in wires:
        wire.disconnect()


def sent() -> list[tuple[int | None, str, str, str]]:
    return list(Event.objects.order_by("id").values_list("position", "channel", "type", "data"))


def test_saving_and_deleting_are_told(broadcast: Any) -> None:
    broadcast("public.orders", fields=["state", "total"])
    order = Order.objects.create(total=Decimal("7.50"))
    key = order.pk
    order.state = "shipped"
    order.save()
    order.delete()
    assert sent() == [
        (1, "public.orders", "message", f'{{"action":"created","id":{key},"state":"new","total":"7.50"}}'),
        (2, "public.orders", "message", f'{{"action":"updated","id":{key},"state":"shipped","total":"7.50"}}'),
        (3, "public.orders", "message", f'{{"action":"deleted","id":{key},"state":"shipped","total":"7.50"}}'),
    ]


def test_a_rolled_back_save_is_not_told(broadcast: Any) -> None:
    broadcast("orders")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Order.objects.create()
        raise ZeroDivisionError
    assert sent() == []


def test_everything_may_be_chosen(broadcast: Any) -> None:
    broadcast(
        lambda order: [f"order.{order.pk}", "public.all"] if order.state != "secret" else None,
        event_type="status",
        data=lambda order, action: [action, order.state],
        on=["created"],
    )
    order = Order.objects.create(state="new")
    order.save()
    Order.objects.create(state="secret")
    assert sent() == [
        (1, f"order.{order.pk}", "status", '["created","new"]'),
        (2, "public.all", "status", '["created","new"]'),
    ]


def test_one_channel_from_a_function(broadcast: Any) -> None:
    broadcast(lambda order: "one")
    Order.objects.create()
    assert [row[1] for row in sent()] == ["one"]


def test_loading_a_fixture_is_not_told(broadcast: Any, tmp_path: Path) -> None:
    broadcast("orders")
    fixture = tmp_path / "orders.json"
    fixture.write_text('[{"model": "shop.order", "pk": 1, "fields": {"state": "new"}}]')
    call_command("loaddata", str(fixture), verbosity=0)
    assert Order.objects.count() == 1
    assert sent() == []


def test_disconnected_it_is_silent(broadcast: Any) -> None:
    wire = broadcast("orders")
    wire.disconnect()
    wire.disconnect()
    Order.objects.create()
    assert sent() == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"channel": "no spaces"}, ValueError),
        ({"channel": "a", "on": ["saved"]}, ValueError),
        ({"channel": "a", "fields": ["nothing"]}, FieldDoesNotExist),
    ],
)
def test_a_mistake_is_found_when_it_is_wired(broadcast: Any, arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        broadcast(**arguments)


class TestCaptureEvents:
    def test_it_sees_what_the_block_stored(self, broadcast: Any) -> None:
        broadcast("orders", event_type="status")
        Order.objects.create()
        with capture_events() as events:
            Order.objects.create()
            Order.objects.create()
        assert [(event.channel, event.type) for event in events] == [("orders", "status")] * 2

    def test_of_some_channels(self) -> None:
        from django_sse import send_events

        with capture_events("a") as events:
            send_events([("a", None, 1), ("b", None, 2)])
        assert [event.data for event in events] == ["1"]

    def test_in_a_transaction_that_never_commits(self, broadcast: Any) -> None:
        broadcast("orders")
        with transaction.atomic():
            with capture_events() as events:
                Order.objects.create()
            transaction.set_rollback(True)
        assert len(events) == 1
        assert sent() == []
