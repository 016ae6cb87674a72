from __future__ import annotations

from django.apps import AppConfig


class LiveConfig(AppConfig):
    name = "tests.live"

    def ready(self) -> None:
        from django_sse.signals import broadcast
        from tests.shop.models import Order

        broadcast(Order, "orders", event_type="order", data=lambda order, action: order.state)
