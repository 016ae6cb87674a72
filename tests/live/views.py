"""Every place of a project from which events are published. Each view takes pairs of a channel and a text."""

from __future__ import annotations

import asyncio
import json
import time
from threading import Thread
from typing import TYPE_CHECKING

from django.db import connection, transaction
from django.http import HttpResponse, JsonResponse

from django_sse import asend_events, retention, send_event, send_events
from django_sse.encoders import TextEncoder
from django_sse.responses import EventStreamResponse
from tests.shop.models import Order

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from django.http import HttpRequest

    Pairs = list[tuple[str, str]]


def authorize(request: HttpRequest, channel: str) -> bool:
    """Everything but ``secret*``; asks the database, as authorisers do."""
    Order.objects.filter(state=channel).exists()
    return not channel.startswith("secret")


def _each(pairs: Pairs) -> None:
    for channel, text in pairs:
        send_event(channel, text=text)


def _batch(pairs: Pairs) -> None:
    send_events([{"channel": channel, "text": text} for channel, text in pairs])


@transaction.atomic
def _atomic(pairs: Pairs) -> None:
    _each(pairs)


def _rolled_back(pairs: Pairs) -> None:
    with transaction.atomic():
        _each(pairs)
        transaction.set_rollback(True)


@transaction.atomic
def _savepoint(pairs: Pairs) -> None:
    """The first is kept, the rest is rolled back to a savepoint."""
    _each(pairs[:1])
    with transaction.atomic():
        _each(pairs[1:])
        transaction.set_rollback(True)


@transaction.atomic
def _signal(pairs: Pairs) -> None:
    for _, text in pairs:
        Order.objects.create(state=text)


def _thread(pairs: Pairs) -> None:
    def run() -> None:
        try:
            _atomic(pairs)
        finally:
            connection.close()

    thread = Thread(target=run)
    thread.start()
    thread.join()


PUBLISH: dict[str, Callable[[Pairs], None]] = {
    "each": _each,
    "batch": _batch,
    "atomic": _atomic,
    "rolled-back": _rolled_back,
    "savepoint": _savepoint,
    "signal": _signal,
    "thread": _thread,
}


def publish(request: HttpRequest, how: str) -> HttpResponse:
    PUBLISH[how](json.loads(request.body))
    return HttpResponse("published")


async def publish_async(request: HttpRequest) -> HttpResponse:
    await asend_events([{"channel": channel, "text": text} for channel, text in json.loads(request.body)])
    return HttpResponse("published")


def trim(request: HttpRequest, keep: int) -> HttpResponse:
    return HttpResponse(str(retention.trim(keep=keep)))


class Production:
    """What the last producer of ``generate`` did."""

    made = 0
    made_at = 0.0
    ended_at = 0.0


async def generate(request: HttpRequest) -> EventStreamResponse:
    """``?count=``, ``?pause=`` seconds before each item, ``?bytes=`` of each, ``?sync``, ``?text`` as plain text;
    ``?fail`` after the last item."""
    count, size = int(request.GET.get("count", 3)), int(request.GET.get("bytes", 1))
    pause = float(request.GET.get("pause", 0))
    Production.made, Production.made_at, Production.ended_at = 0, 0.0, 0.0

    def made(number: int) -> str:
        Production.made = number + 1
        Production.made_at = Production.made_at or time.monotonic()
        return f"{number} {time.monotonic()} " + "x" * size

    async def items() -> AsyncIterator[str]:
        try:
            for number in range(count):
                await asyncio.sleep(pause)
                yield made(number)
            if "fail" in request.GET:
                raise TimeoutError("the model fell silent")
        finally:
            Production.ended_at = time.monotonic()

    def sync_items() -> Iterator[str]:
        try:
            for number in range(count):
                time.sleep(pause)
                yield made(number)
        finally:
            Production.ended_at = time.monotonic()

    encoder = TextEncoder() if "text" in request.GET else None
    return EventStreamResponse(sync_items() if "sync" in request.GET else items(), encoder=encoder)


def production(request: HttpRequest) -> JsonResponse:
    return JsonResponse({name: getattr(Production, name) for name in ("made", "made_at", "ended_at")})
