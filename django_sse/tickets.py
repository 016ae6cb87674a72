"""Tickets: how a client without cookies, or of another origin, opens a stream in somebody's name.

A view that knows the user signs a ticket for some channels; the client opens the stream with it within a minute. A
ticket says who asks and for what, and permits nothing: the authoriser decides, as for everybody. It is bound to the
user's password and to the session in which it was signed, so it dies with either, and the stream with it. The key of
that session is in it, sealed: a ticket can be read by anybody, and a session's key is as good as its cookie.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from asgiref.sync import sync_to_async
from django.contrib.auth import SESSION_KEY, get_user_model
from django.core import signing
from django.core.exceptions import ValidationError
from django.db.models import Q

from django_sse import log
from django_sse.channels import check_channel
from django_sse.conf import settings
from django_sse.control import CONTROL, Notice, fingerprint
from django_sse.grant import fallback_fingerprints, get_user, user_fingerprint
from django_sse.models import Event
from django_sse.recheck import is_of, of_session, read_sessions
from django_sse.seal import seal, unseal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.http import HttpRequest

    from django_sse.grant import Grant

__all__ = ["AGE", "Ticket", "asign_ticket", "presented", "redeem", "sign_ticket"]

AGE: Final = 60
"""Seconds within which a ticket opens a stream."""
_SALT: Final = "django_sse.tickets"
_SCHEME: Final = "ticket "


class Ticket(NamedTuple):
    """What a ticket that was found good says."""

    user: Any
    channels: frozenset[str]
    session: str | None
    """Fingerprint of the session in which it was signed."""
    until: float | None
    """When that session ends, in seconds since the epoch."""
    auth_hash: str
    session_key: str | None
    """Of that session; None: there was none, it is another's, or it cannot be looked for (its key is the cookie)."""

    def __repr__(self) -> str:
        return "Ticket(…)"  # the key opens a session, so it must not get into anybody's log

    def admit(self, request: HttpRequest) -> None:
        """Make ``request`` one of this user; whatever session it has does not count."""

        async def auser() -> Any:
            return self.user

        request.user, request.auser = self.user, auser

    def bind(self, grant: Grant) -> None:
        """Make the stream of ``grant`` end with what this ticket is bound to."""
        grant.by_session, grant.session_key = False, None
        grant.session, grant.bound_key, grant.auth_hash = self.session, self.session_key, self.auth_hash
        grant.until = None if self.session_key else self.until  # else it is looked at, and may have been prolonged


def sign_ticket(request: HttpRequest, channels: Iterable[str]) -> str:
    """Return a ticket with which the user of ``request`` may ask for ``channels``, or some of them, within a minute.

    Send it in the body of an answer that no cache keeps. The client opens ``/events/?channel=…&ticket=…``, or sends
    ``Authorization: Ticket …`` where it can: headers are not written to access logs.
    Raises ``ValueError`` where nobody is logged in, and ``InvalidChannel`` for a name that cannot be one.
    """
    user: Any = request.user
    if not user.is_authenticated:
        raise ValueError("Nobody is logged in, so there is nobody to sign a ticket for.")
    session = getattr(request, "session", None)
    owner = session.get(SESSION_KEY) if session is not None and session.session_key else None
    # Beside the cookie of another, as a token's user may be, the ticket must not need that session to be theirs.
    is_theirs = owner is not None and str(owner) == str(user.pk)
    names = sorted(set(map(check_channel, channels)))
    if not names:
        raise ValueError("Name the channels that the ticket is for.")
    content = {
        "u": str(user.pk),
        "c": names,
        "h": user_fingerprint(user),
        "s": fingerprint(session.session_key) if owner is not None and session else None,
        "k": seal(session.session_key) if is_theirs and session else None,
        "e": session.get_expiry_date().timestamp() if is_theirs and session else None,
        "p": log.get_head(),
    }
    return signing.dumps(content, salt=_SALT, compress=True)


async def asign_ticket(request: HttpRequest, channels: Iterable[str]) -> str:
    """``sign_ticket`` for async code."""
    request.user = await get_user(request)
    return await sync_to_async(sign_ticket)(request, channels)


def presented(request: HttpRequest) -> str | None:
    """Return the ticket that ``request`` bears, good or not; None: it bears none."""
    header = request.META.get("HTTP_AUTHORIZATION", "")
    if header[: len(_SCHEME)].lower() == _SCHEME:
        return str(header[len(_SCHEME) :].strip())
    return request.GET.get("ticket")


def redeem(text: str) -> Ticket | None:
    """Return what the ticket ``text`` says, or None: it is forged, too old, or its user or session has ended."""
    try:
        content = signing.loads(text, salt=_SALT, max_age=AGE)
        user = get_user_model()._default_manager.filter(pk=content["u"]).first()
    except (signing.BadSignature, ValidationError, ValueError):
        return None
    if user is None or not getattr(user, "is_active", True):
        return None
    auth_hash = user_fingerprint(user)
    if content["h"] not in (auth_hash, *fallback_fingerprints(user)):
        return None
    if content["e"] is not None and time.time() > content["e"]:
        return None
    key = None
    if content["k"] is not None:
        key = next((one for one in unseal(content["k"]) if fingerprint(one) == content["s"]), None)
        data = read_sessions({key}).get(key) if key is not None else None
        if data is None or not is_of(data, str(user.pk)):
            return None
        user = of_session(data, user)  # by the backend that logged them in, as for a cookie
        if isinstance(user, str):
            return None
    ticket = Ticket(user, frozenset(content["c"]), content["s"], content["e"], auth_hash, key)
    return None if _is_closed(ticket, content["p"]) else ticket


def _is_closed(ticket: Ticket, position: int) -> bool:
    """Tell whether streams of ``ticket`` would have been closed since it was signed, or nobody knows any more."""
    rows = Event.objects.using(settings.DATABASE).filter(channel=CONTROL)
    for text in rows.filter(Q(position__gt=position) | Q(position=None)).values_list("data", flat=True):
        try:
            notice = Notice.decode(text)
        except (ValueError, TypeError):
            continue
        if not notice.ask and notice.concerns(str(ticket.user.pk), ticket.session, ticket.channels):
            return True
    reach = log.reach()  # after the notices: some may have been among what was trimmed, or lost with a backup
    return not reach.floor <= position <= reach.head
