"""What the orders say, and where. Wired to the model's signals in ``apps``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from django.utils import timezone

from demo_project.orders.models import count_by_state

if TYPE_CHECKING:
    from demo_project.orders.models import Order

__all__ = ["ORDERS", "announce", "describe"]

ORDERS: Final = "public.orders"


def describe(order: Order, action: str) -> dict[str, Any]:
    """Return what a row of the page shows, and the counts above the rows: a page cannot count orders that it does not
    show."""
    following = order.following
    return {
        "action": action,
        "id": order.pk,
        "customer": order.customer,
        "item": order.item,
        "quantity": order.quantity,
        "total": f"{order.total:.2f}",
        "state": order.state,
        "following": following.value if following else "",
        "counts": count_by_state(),
    }


def announce(order: Order, action: str) -> dict[str, Any]:
    """Return a notification for the bell of the dashboard."""
    news = "is new" if action == "created" else f"is {order.state}"
    body = f"{order.quantity} \N{MULTIPLICATION SIGN} {order.item} for {order.customer}"
    return {"title": f"Order {order.pk} {news}", "body": body, "at": timezone.now()}
