from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import Http404
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from demo_project.answer import done
from demo_project.raw.job import count_lines
from demo_project.raw.samples import RAW, SAMPLES
from django_sse import get_head, send_event
from django_sse.responses import EventStreamResponse

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

__all__ = ["job", "publish", "raw"]


@require_safe
def raw(request: HttpRequest) -> HttpResponse:
    position = get_head()
    # The address that the tag makes, so that both sides of the page read the same stream.
    query = urlencode([("channel", RAW), ("since", position)])
    address = f"{reverse('django_sse:events')}?{query}"
    context = {"channel": RAW, "position": position, "address": address, "samples": SAMPLES}
    return render(request, "raw.html", context)


@require_safe
def job(request: HttpRequest) -> EventStreamResponse:
    return EventStreamResponse(count_lines())


@require_POST
def publish(request: HttpRequest, kind: str) -> HttpResponse:
    sample = SAMPLES.get(kind)
    if sample is None:
        raise Http404(f"There is no sample {kind!r}.")
    send_event(RAW, *sample.arguments, **sample.options)
    return done(request, "raw")
