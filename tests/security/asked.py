"""Views and rules that are asked again: some answer from the database, one not at all."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import User

from django_sse.views import EventStreamView, event_stream
from tests.shop.models import Order

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Hanging", "Mine", "asked_view", "asks_the_database", "function_view"]


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


class Hanging:
    """An ``AUTHORIZE`` that permits everything, and hangs in its thread meanwhile."""

    def __init__(self) -> None:
        self._hangs, self._free = threading.Event(), threading.Event()
        self.begun: list[str] = []
        """The channels it was asked about since it hangs."""

    def __call__(self, request: Any, channel: str) -> bool:
        if self._hangs.is_set():
            self.begun.append(channel)
            self._free.wait(30)
        return True

    @contextmanager
    def meanwhile(self) -> Iterator[None]:
        self._hangs.set()
        try:
            yield
        finally:
            self._free.set()
