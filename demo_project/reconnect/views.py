from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from django.http import HttpResponseBadRequest, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from demo_project.reconnect import visits
from demo_project.reconnect.visits import Arrival, channel_of
from django_sse import asend_events, get_head
from django_sse.views import EventStreamView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpRequest, HttpResponse

__all__ = ["RunStream", "publish", "reconnect"]

MOST: Final = 200
"""Events of one press of a button."""


@require_safe
def reconnect(request: HttpRequest) -> HttpResponse:
    run = secrets.token_hex(8)
    context = {
        "run": run,
        "position": get_head(),
        "stream": reverse("reconnect-stream", args=[run]),
        "publish": reverse("reconnect-publish", args=[run]),
        "most": MOST,
    }
    return render(request, "reconnect.html", context)


class RunStream(EventStreamView):
    """The stream of one run. The channel is fixed by the address, so nobody is asked for permission."""

    async def get_channels(self, request: HttpRequest) -> Iterable[str]:
        run = self.kwargs["run"]
        visits.arrive(run, Arrival(request.headers.get("Last-Event-ID"), request.GET.get("since")))
        return [channel_of(run)]


@require_POST
async def publish(request: HttpRequest, run: str) -> HttpResponse:
    """Publish the events numbered ``first`` to ``last``; with ``cut`` end the page's stream before that.

    The page says which numbers, so that it knows what it must receive.
    """
    try:
        first, last = int(request.POST["first"]), int(request.POST["last"])
    except (KeyError, ValueError):
        return HttpResponseBadRequest("first and last must be numbers.\n", content_type="text/plain")
    if not 0 < first <= last < first + MOST:
        return HttpResponseBadRequest(f"Publish 1 to {MOST} events at a time.\n", content_type="text/plain")
    was_cut = "cut" in request.POST and await visits.cut(run)
    events = await asend_events([(channel_of(run), None, {"number": n}) for n in range(first, last + 1)])
    return JsonResponse({"cut": was_cut, "positions": [event.position for event in events if event]})
