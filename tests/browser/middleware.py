from __future__ import annotations

import secrets
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest, HttpResponse

__all__ = ["POLICY", "record_requests", "requests", "strict_content_security_policy"]

POLICY = "default-src 'none'; script-src 'nonce-{}'; connect-src 'self'"

requests: deque[dict[str, Any]] = deque(maxlen=1000)
"""What the browser asked for, in order."""


def record_requests(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        requests.append(
            {
                "path": request.path,
                "channels": request.GET.getlist("channel"),
                "since": request.GET.get("since"),
                "last_event_id": request.headers.get("Last-Event-ID"),
                "accept": request.headers.get("Accept"),
                "accept_encoding": request.headers.get("Accept-Encoding"),
            }
        )
        return get_response(request)

    return middleware


def strict_content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """``?csp=request``: the nonce is where django-csp puts it; ``?csp=argument``: a template must pass it on."""

    def middleware(request: Any) -> HttpResponse:
        where = request.GET.get("csp")
        if where not in ("request", "argument"):
            return get_response(request)
        nonce = request.page_nonce = secrets.token_urlsafe(16)
        if where == "request":
            request.csp_nonce = nonce
        response = get_response(request)
        response.headers["Content-Security-Policy"] = POLICY.format(nonce)
        return response

    return middleware
