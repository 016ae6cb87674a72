from __future__ import annotations

from django.db import models

__all__ = ["Order", "State", "count_by_state"]


class State(models.TextChoices):
    PLACED = "placed"
    PAID = "paid"
    PACKED = "packed"
    SHIPPED = "shipped"
    DELIVERED = "delivered"

    @property
    def following(self) -> State | None:
        states = list(State)
        index = states.index(self) + 1
        return states[index] if index < len(states) else None


class Order(models.Model):
    customer = models.CharField(max_length=60)
    item = models.CharField(max_length=60)
    quantity = models.PositiveSmallIntegerField(default=1)
    total = models.DecimalField(max_digits=9, decimal_places=2)
    state = models.CharField(max_length=12, choices=State.choices, default=State.PLACED)

    class Meta:
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"Order {self.pk}: {self.quantity} \N{MULTIPLICATION SIGN} {self.item} for {self.customer}"

    @property
    def following(self) -> State | None:
        """The state that comes next."""
        return State(self.state).following


def count_by_state() -> dict[str, int]:
    """Return how many of all orders are in each state."""
    found = dict(Order.objects.order_by().values_list("state").annotate(models.Count("pk")))
    return {state: found.get(state, 0) for state in State.values}
