from __future__ import annotations

from django.apps import AppConfig


class OrdersConfig(AppConfig):
    name = "demo_project.orders"

    def ready(self) -> None:
        from demo_project.dashboard.channel import DASHBOARD
        from demo_project.orders.channel import ORDERS, announce, describe
        from demo_project.orders.models import Order
        from django_sse.signals import broadcast

        broadcast(Order, ORDERS, event_type="order", data=describe)
        broadcast(Order, DASHBOARD, event_type="notification", data=announce, on=("created", "updated"))
