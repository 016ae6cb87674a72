from __future__ import annotations

import asyncio
import os
import secrets
import sys
from functools import cache
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.http import HttpResponseBadRequest, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from demo_project.reconnect import visits
from demo_project.versus.consumers import drop, tell
from django_sse import asend_event, get_head

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

__all__ = ["publish", "versus"]

MOST: Final = 200
BREATH: Final = 0.3
"""Seconds for the answer of the request that restarts the server."""
CLIENT: Final = settings.BASE_DIR / "static/demo/socket.js"


@require_safe
def versus(request: HttpRequest) -> HttpResponse:
    run = secrets.token_hex(8)
    context = {
        "run": run,
        "position": get_head(),
        # The stream of the reconnect page: an EventStreamView with one channel.
        "stream": reverse("reconnect-stream", args=[run]),
        "client": _client(),
        "lines": sum(1 for line in _client().splitlines() if line.strip() and not line.lstrip().startswith("//")),
        "can_restart": _can_restart(),
    }
    return render(request, "versus.html", context)


@require_POST
async def publish(request: HttpRequest, run: str) -> HttpResponse:
    """Publish the notifications ``first`` to ``last`` both ways; before that drop both connections, with ``drop``, or
    with ``restart`` also start the server anew afterwards."""
    try:
        first, last = int(request.POST["first"]), int(request.POST["last"])
    except (KeyError, ValueError):
        return HttpResponseBadRequest("first and last must be numbers.\n", content_type="text/plain")
    if not 0 < first <= last < first + MOST:
        return HttpResponseBadRequest(f"Publish 1 to {MOST} at a time.\n", content_type="text/plain")
    restart = "restart" in request.POST and _can_restart()
    if restart or "drop" in request.POST:
        await visits.cut(run)
        await drop(run)
    for number in range(first, last + 1):
        await asend_event(visits.channel_of(run), None, {"number": number})
        await tell(run, {"number": number})
    if restart:
        asyncio.get_running_loop().call_later(BREATH, _restart)
    return JsonResponse({"restart": restart})


@cache
def _client() -> str:
    """Return the script of the WebSocket's side, as the page loads it."""
    return CLIENT.read_text()


def _can_restart() -> bool:
    return sys.argv[1:2] == ["demo"]


def _restart() -> None:
    """Become a new process of the same program: connections, memory and channel layer are gone."""
    os.execv(sys.executable, [sys.executable, *sys.argv])
