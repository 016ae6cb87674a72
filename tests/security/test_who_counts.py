"""Who counts for a limit of streams, while others keep theirs open."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncClient
from django.urls import path

from django_sse.testing import listen
from django_sse.views import EventStreamView

pytestmark = pytest.mark.usefixtures("committed")

urlpatterns = [path("fixed/", EventStreamView.as_view(channels=["anything"]))]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


class From(AsyncClient):
    """Asks from ``address``, where it has one."""

    def __init__(self, address: str | None) -> None:
        super().__init__()
        self._from = None if address is None else [address, 1234]

    def _base_scope(self, **request: Any) -> dict[str, Any]:
        return {**super()._base_scope(**request), "client": self._from}


@pytest.mark.parametrize("limit", ["MAX_STREAMS_PER_USER", "MAX_STREAMS_PER_ADDRESS"])
async def test_who_has_left_counts_no_more(settings: Any, limit: str) -> None:
    """Also where the process has other streams all the time."""
    settings.DJANGO_SSE = {limit: 2}
    ann = From("192.0.2.1")
    await ann.aforce_login(await User.objects.acreate_user("ann"))
    async with listen(From("192.0.2.2"), "/fixed/"):
        for _ in range(2):
            async with listen(ann, "/fixed/"), listen(ann, "/fixed/"):
                response: Any = await ann.get("/fixed/")
                assert not response.streaming, "one too many"


async def test_clients_without_an_address_are_not_one(settings: Any) -> None:
    """A server on a socket of the file system knows none."""
    settings.DJANGO_SSE = {"MAX_STREAMS_PER_ADDRESS": 1}
    async with AsyncExitStack() as stack:
        for _ in range(3):
            await stack.enter_async_context(listen(From(None), "/fixed/"))
