from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin

from demo_project.orders.models import Order

if TYPE_CHECKING:
    OrderModelAdmin = admin.ModelAdmin[Order]
else:
    OrderModelAdmin = admin.ModelAdmin


@admin.register(Order)
class OrderAdmin(OrderModelAdmin):
    list_display = ("id", "customer", "item", "quantity", "total", "state")
    list_editable = ("state",)
    list_filter = ("state",)
    search_fields = ("customer", "item")
