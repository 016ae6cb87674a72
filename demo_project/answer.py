"""What a button of the demo gets back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.http import HttpResponse
from django.shortcuts import redirect

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["done"]


def done(request: HttpRequest, page: str, *args: str) -> HttpResponse:
    """Return nothing to a page that posted by script, since the event tells it; else go back to ``page``."""
    if request.headers.get("X-Requested-With") == "fetch":
        return HttpResponse(status=204)
    return redirect(page, *args)
