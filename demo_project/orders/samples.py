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


def place(state: State = State.PLACED) -> Order:
    """Save one order of chance."""
    item, price = random.choice(list(PRICES.items()))
    quantity = random.randint(1, 4)
    return Order.objects.create(
        customer=random.choice(CUSTOMERS), item=item, quantity=quantity, total=price * quantity, state=state
    )


def fill() -> None:
    """Give an empty page something to show."""
    if not Order.objects.exists():
        for state in (State.DELIVERED, State.SHIPPED, State.PACKED, State.PAID, State.PAID, State.PLACED):
            place(state)
