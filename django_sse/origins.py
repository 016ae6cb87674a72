"""Requests from other sites: which may be answered, decided from headers alone, before any session or database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.core.exceptions import DisallowedHost
from django.http import HttpResponse
from django.utils.cache import patch_vary_headers

from django_sse.conf import settings

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["is_allowed", "mark", "preflight"]

_HERE: Final = ("same-origin", "none")
"""What ``Sec-Fetch-Site`` says of a page of ours, and of an address that somebody typed."""


def is_allowed(request: HttpRequest) -> bool:
    """Tell whether a page of this origin, or of one in ``ALLOWED_ORIGINS``, asks; or something that is no browser.

    A browser sends ``Origin`` with every ``EventSource`` of another origin, and ``Sec-Fetch-Site`` with everything,
    also with an ``<img>``, which sends no ``Origin``.
    """
    origin = request.META.get("HTTP_ORIGIN")
    if origin is None:
        return request.META.get("HTTP_SEC_FETCH_SITE", "none") in _HERE
    return origin in settings.ALLOWED_ORIGINS or _is_ours(request, origin)


def mark(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Say in the headers of ``response`` for whom it is: for nobody's cache, and for scripts of an allowed origin."""
    patch_vary_headers(response, ("Origin", "Cookie"))
    if not response.has_header("Cache-Control"):
        response["Cache-Control"] = "no-store, private"
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    origin = request.META.get("HTTP_ORIGIN")
    for allowed in settings.ALLOWED_ORIGINS:
        if origin == allowed:
            response["Access-Control-Allow-Origin"] = allowed  # the setting's text, nothing of the request
            response["Access-Control-Allow-Credentials"] = "true"
    return response


def preflight(request: HttpRequest) -> HttpResponse | None:
    """Return the answer to a CORS preflight; None where this is none. A client that sets headers needs it."""
    if request.method != "OPTIONS" or "HTTP_ACCESS_CONTROL_REQUEST_METHOD" not in request.META:
        return None
    response = HttpResponse(status=204)
    response["Access-Control-Allow-Methods"] = "GET"
    response["Access-Control-Allow-Headers"] = "authorization, last-event-id"
    response["Access-Control-Max-Age"] = "600"
    return response


def _is_ours(request: HttpRequest, origin: str) -> bool:
    try:
        return origin == f"{request.scheme}://{request.get_host()}"
    except DisallowedHost:
        return False
