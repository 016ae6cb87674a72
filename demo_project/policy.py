"""The Content-Security-Policy of the demo's pages: nothing inline runs but the tag's script, by its nonce."""

from __future__ import annotations

import secrets
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from django.utils.decorators import sync_and_async_middleware

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["content_security_policy"]


@sync_and_async_middleware
def content_security_policy(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Give the request a ``csp_nonce``, which ``{% event_source %}`` picks up, and the page its policy.

    Of both kinds, sync and async: a sync one would put a thread between the server and every stream.
    """
    if iscoroutinefunction(get_response):

        async def amiddleware(request: HttpRequest) -> HttpResponseBase:
            nonce = _give_nonce(request)
            return _with_policy(await get_response(request), nonce)

        return amiddleware

    def middleware(request: HttpRequest) -> HttpResponseBase:
        nonce = _give_nonce(request)
        return _with_policy(get_response(request), nonce)

    return middleware


def _give_nonce(request: HttpRequest) -> str:
    nonce = secrets.token_urlsafe(16)
    cast("Any", request).csp_nonce = nonce
    return nonce


def _with_policy(response: HttpResponseBase, nonce: str) -> HttpResponseBase:
    response["Content-Security-Policy"] = (
        f"default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    return response
