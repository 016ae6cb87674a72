"""What an open stream keeps of the request that opened it: enough to ask again whether it may stay, nothing more.

The request itself would keep its connection, its user and its middleware's leavings in memory for hours. From these
few texts a request is made anew, with the session and the user as they are then.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, QueryDict, parse_cookie
from django.utils.functional import SimpleLazyObject

from django_sse.address import client_address
from django_sse.conf import settings
from django_sse.control import fingerprint

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["Grant", "client_name", "fallback_fingerprints", "get_user", "user_fingerprint"]

_FEW: Final = ("REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT", "QUERY_STRING", "CONTENT_TYPE")
_DROPPED: Final = (
    "HTTP_ACCEPT",
    "HTTP_CACHE_CONTROL",
    "HTTP_CONNECTION",
    "HTTP_DNT",
    "HTTP_LAST_EVENT_ID",
    "HTTP_PRAGMA",
    "HTTP_PRIORITY",
    "HTTP_REFERER",
    "HTTP_SEC_",
    "HTTP_USER_AGENT",
)
"""What every browser sends and no permission depends on: most of the bytes."""
_OWN: Final = frozenset({"HTTP_AUTHORIZATION", "HTTP_COOKIE", "QUERY_STRING"})
"""What each client has for itself, and is not to outlive its stream."""
_LONGEST: Final = 300
"""Characters of a text that may be shared."""


def _shared(value: Any) -> Any:
    """Return ``value``, or one that is equal: most names and values are the same for many streams.

    Not ``sys.intern``: some Pythons keep for ever what that is given, and a client may send what it likes.
    """
    return _one_of(value) if type(value) is str and len(value) <= _LONGEST else value


@lru_cache(maxsize=1000)
def _one_of(text: str) -> str:
    return text


async def get_user(request: HttpRequest) -> Any:
    """Return the user of ``request``: the one that a middleware or a ticket put there, else that of the session."""
    user = request.__dict__.get("user")
    if user is not None and not isinstance(user, SimpleLazyObject):
        return user
    return await request.auser() if hasattr(request, "auser") else AnonymousUser()


def user_fingerprint(user: Any) -> str:
    """Return what changes with the password of ``user``."""
    return fingerprint(user.get_session_auth_hash() if hasattr(user, "get_session_auth_hash") else "")


def fallback_fingerprints(user: Any) -> list[str]:
    """Return what ``user_fingerprint`` would have been with each of ``SECRET_KEY_FALLBACKS``."""
    hashes = user.get_session_auth_fallback_hash() if hasattr(user, "get_session_auth_fallback_hash") else ()
    return [fingerprint(one) for one in hashes]


def client_name(user: str | None, address: str) -> str:
    """Return whom a request is from, as far as anybody can tell: the user, by primary key, else the address, where a
    site counts by those; else nobody. Behind a proxy that no setting names all clients have one address, and must not
    share one limit."""
    if user:
        return f"user {user}"
    return address if settings.MAX_STREAMS_PER_ADDRESS is not None else ""


class Grant:
    """Who opened a stream, and how to ask again."""

    __slots__ = (
        "_attributes",
        "_headers",
        "_path",
        "_secure",
        "address",
        "ask",
        "auth_hash",
        "bound_key",
        "by_session",
        "position",
        "session",
        "session_key",
        "until",
        "user",
    )

    @classmethod
    async def of(cls, request: HttpRequest, position: int, keep: Iterable[str] = ()) -> Grant:
        """Return the grant of ``request``; may query for its session and user.

        ``position``: where the log was before anything was asked; ``keep``: attributes of the request that the
        authoriser needs beside those that Django sets.
        """
        user = await get_user(request)
        session = getattr(request, "session", None)
        owner = await session.aget(SESSION_KEY) if user.is_authenticated and session is not None else None
        # A token's user may be another than the one whose cookie the browser happens to send.
        by_session = owner is not None and str(owner) == str(user.pk)
        return cls(request, user, by_session, position, keep)

    def __init__(
        self, request: HttpRequest, user: Any, by_session: bool, position: int, keep: Iterable[str] = ()
    ) -> None:
        session = getattr(request, "session", None)
        self.position = position
        """Notices up to here were obeyed by whoever opened the stream: the database already said so."""
        self.user: str | None = str(user.pk) if user.is_authenticated else None
        self.session_key: str | None = session.session_key if session is not None else None
        self.session: str | None = fingerprint(self.session_key) if self.session_key else None
        self.by_session = by_session
        """Whether the right hangs on the session; else on the user alone (a ticket, a token, a proxy)."""
        self.auth_hash: str | None = None
        """What a ticket is bound to: ``user_fingerprint`` when it was signed."""
        self.bound_key: str | None = None
        """Key of the session behind a ticket: it must be there, and is not the request's."""
        self.until: float | None = None
        """When the session behind a ticket ends, where it cannot be looked for, in seconds since the epoch."""
        self.address = client_address(request)
        self.ask: Callable[[HttpRequest], Awaitable[bool]] | None = None
        self._path = request.path
        self._secure = request.is_secure()
        self._headers = {
            _shared(name): value if name in _OWN else _shared(value)
            for name, value in request.META.items()
            if name in _FEW or (name.startswith("HTTP_") and not name.startswith(_DROPPED))
        }
        self._attributes = {name: getattr(request, name) for name in keep if hasattr(request, name)}

    @property
    def name(self) -> str:
        """See ``client_name``."""
        return client_name(self.user, self.address)

    def request(self, user: Any, session: Any) -> HttpRequest:
        """Return the request as it would be if the client came now with this ``user`` and ``session``."""
        made = _Again(secure=self._secure)
        made.method = "GET"
        made.path = made.path_info = self._path
        made.META = dict(self._headers)
        made.GET = QueryDict(self._headers.get("QUERY_STRING", ""))
        made.COOKIES = parse_cookie(self._headers.get("HTTP_COOKIE", ""))

        async def auser() -> Any:
            return user

        made.session, made.user, made.auser = session, user, auser
        vars(made).update(self._attributes)
        return made


class _Again(HttpRequest):
    """A request that was made from a grant."""

    def __init__(self, *, secure: bool) -> None:
        super().__init__()
        self._is_secure = secure

    def _get_scheme(self) -> str:
        return "https" if self._is_secure else "http"
