"""Views and rules that answer from the database, each time they are asked."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import User

from django_sse.views import EventStreamView, event_stream
from tests.shop.models import Order

__all__ = ["Mine", "asked_view", "asks_the_database", "function_view"]


async def function_view(request: Any) -> Any:
    return await event_stream(request, ["anything"])


class Mine(EventStreamView):
    async def get_channels(self, request: Any) -> list[str]:
        user = await request.auser()
        return [f"order.{(await Order.objects.aget(pk=self.kwargs['pk'], state=f'of {user.pk}')).pk}"]


async def asked_view(request: Any, pk: int) -> Any:
    async def allowed(request: Any) -> bool:
        user = await request.auser()
        return bool(await Order.objects.aget(pk=pk, state=f"of {user.pk}"))

    return await event_stream(request, [f"order.{pk}"], allowed=allowed)


def asks_the_database(request: Any, channel: str) -> bool:
    return User.objects.filter(username="ann").exists()
