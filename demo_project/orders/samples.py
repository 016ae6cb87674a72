"""Orders to look at."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Final

from demo_project.orders.models import Order, State

__all__ = ["fill", "place"]

CUSTOMERS: Final = (
    "Ada Lovelace",
    "Grace Hopper",
    "Radia Perlman",
    "Ken Thompson",
    "Barbara Liskov",
    "Edsger Dijkstra",
    "Katherine Johnson",
    "Donald Knuth",
)
PRICES: Final = {
    "Signal lamp": Decimal("34.50"),
    "Desk bell, brass": Decimal("18.00"),
    "Telegraph key": Decimal("62.00"),
    "Ship's log, ruled": Decimal("12.75"),
    "Carrier pigeon, retired": Decimal("140.00"),
}


def place() -> Order:
    """Save one order of chance."""
    order = _chance(State.PLACED)
    order.save()
    return order


def fill() -> None:
    """Give an empty page something to show. In bulk, which sends no signals: these are no news to anybody."""
    if not Order.objects.exists():
        states = (State.DELIVERED, State.SHIPPED, State.PACKED, State.PAID, State.PAID, State.PLACED)
        Order.objects.bulk_create(map(_chance, states))


def _chance(state: State) -> Order:
    item, price = random.choice(list(PRICES.items()))
    quantity = random.randint(1, 4)
    return Order(customer=random.choice(CUSTOMERS), item=item, quantity=quantity, total=price * quantity, state=state)
