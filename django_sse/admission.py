"""Letting a request in: what is asked before a stream is opened, the cheapest first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.http import HttpResponseForbidden

from django_sse import tickets
from django_sse.access import get_authorizer
from django_sse.address import client_address
from django_sse.grant import Grant, get_user
from django_sse.hub import Hub
from django_sse.responses import event_body
from django_sse.stream import long_retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django.http import HttpRequest, HttpResponse

    Decide = Callable[[], Awaitable[frozenset[str]]]

__all__ = ["FORBIDDEN", "PLAIN", "Admitted", "admit", "forbidden"]

FORBIDDEN: Final = "You may not read these channels.\n"
"""The same for a channel that is refused and one that does not exist."""
PLAIN: Final = "text/plain; charset=utf-8"


class Admitted(NamedTuple):
    """The channels that a request may read, and what its stream keeps of it."""

    names: frozenset[str]
    grant: Grant | None


async def admit(
    request: HttpRequest, decide: Decide, *, stays: bool, ticket: str | None = None
) -> Admitted | HttpResponse:
    """Let ``request`` in to the channels that ``decide()`` returns, or return the answer that refuses it.

    ``stays``: the stream is to stay open, so it counts, and needs a grant. Raises what the database raises.
    """
    if "\0" in request.COOKIES.get(django_settings.SESSION_COOKIE_NAME, ""):
        return forbidden()  # nobody's session, and PostgreSQL refuses the question
    position = 0
    if stays:
        if Hub.current().census.is_full(None, client_address(request)):
            return event_body(long_retry())
        # Before anybody is asked: a notice that comes after this closes the stream; of one before it, they know.
        position = await Hub.current().position()
    redeemed = await sync_to_async(tickets.redeem)(ticket) if ticket is not None else None
    if ticket is not None and redeemed is None:
        return forbidden()
    if redeemed:
        redeemed.admit(request)
    if stays:
        user = await get_user(request)
        if user.is_authenticated and Hub.current().census.is_full(str(user.pk), ""):
            return event_body(long_retry())
    names = await decide()
    if not names or (redeemed and not names <= redeemed.channels):
        return forbidden()
    if not stays:
        return Admitted(names, None)
    # After all were asked: an authoriser that reads a token of its own may have put the token's user on the request.
    grant = await Grant.of(request, position, getattr(get_authorizer(), "keep", ()))
    if redeemed:
        redeemed.bind(grant)
    return Admitted(names, grant)


def forbidden() -> HttpResponse:
    """Return the refusal."""
    return HttpResponseForbidden(FORBIDDEN, content_type=PLAIN)
