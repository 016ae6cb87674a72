"""Asking again, for many streams at once, whether they may go on."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.core.exceptions import ValidationError
from django.db import connections
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from django_sse.grant import user_fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from django_sse.grant import Grant

__all__ = ["Findings", "examine"]

EXPIRED: Final = "expired"
"""The session is gone, or is not this user's any more."""
DEACTIVATED: Final = "deactivated"
"""The user is gone, or may not log in any more."""
DENIED: Final = "denied"
"""The authoriser no longer says yes."""


class Findings(NamedTuple):
    """For each grant why its stream must close, or None; and how many ``queries`` it took to find out."""

    reasons: list[str | None]
    queries: int


async def examine(grants: Sequence[Grant]) -> Findings:
    """Ask for ``grants`` what was asked when their streams were opened: session, user, authoriser.

    Sessions and users are read with one query each. All of it goes over one connection, which is given back at the
    end. Raises what the database raises: then nothing was found out.
    """
    async with ThreadSensitiveContext():  # a thread of its own for what is sync, as a request has
        count = _Count()
        opened = await sync_to_async(count.begin)()
        try:
            found = await sync_to_async(_identify)(grants)
            reasons = [await _reason(grant, who) for grant, who in zip(grants, found, strict=True)]
        finally:
            await sync_to_async(_close)(opened)
        return Findings(reasons, count.queries)


class _Who(NamedTuple):
    user: Any
    session: Any


async def _reason(grant: Grant, who: _Who | str) -> str | None:
    if isinstance(who, str):
        return who
    if grant.ask and not await grant.ask(grant.request(who.user, who.session)):
        return DENIED
    return None


def _identify(grants: Sequence[Grant]) -> list[_Who | str]:
    """Return the user and session of each grant as they are now, or why it has none any more."""
    sessions = _sessions({grant.session_key for grant in grants if grant.session_key})
    users = _users({grant.user for grant in grants if grant.user})
    store = _store()
    now = timezone.now().timestamp()
    found: list[_Who | str] = []
    for grant in grants:
        data = sessions.get(grant.session_key or "")
        session = store(grant.session_key if data is not None else None)
        session._session_cache = data or {}
        user = users.get(grant.user) if grant.user else AnonymousUser()
        is_gone = grant.by_session and (data is None or str(data.get(SESSION_KEY)) != grant.user)
        if is_gone or (grant.until is not None and now > grant.until):
            found.append(EXPIRED)
        elif user is None:
            found.append(DEACTIVATED)
        elif grant.by_session and data is not None:
            user = _of_session(data, user)
            found.append(user if isinstance(user, str) else _Who(user, session))
        elif grant.auth_hash and grant.auth_hash != user_fingerprint(user):
            found.append(EXPIRED)
        elif getattr(user, "is_active", True) or not grant.user:
            found.append(_Who(user, session))
        else:
            found.append(DEACTIVATED)
    return found


def _of_session(data: dict[str, Any], user: Any) -> Any:
    """Return what ``django.contrib.auth.get_user`` would, without renewing the session; or why it would return none."""
    path = data.get(BACKEND_SESSION_KEY)
    if path is None or path not in django_settings.AUTHENTICATION_BACKENDS:
        return EXPIRED
    backend: Any = load_backend(path)
    if type(backend).get_user is ModelBackend.get_user:
        user = user if backend.user_can_authenticate(user) else None
    else:
        user = backend.get_user(user.pk)
    if user is None:
        return DEACTIVATED
    given = data.get(HASH_SESSION_KEY)
    if hasattr(user, "get_session_auth_hash") and not (given and _is_hash_of(given, user)):
        return EXPIRED
    return user


def _is_hash_of(given: str, user: Any) -> bool:
    hashes = [user.get_session_auth_hash(), *getattr(user, "get_session_auth_fallback_hash", lambda: ())()]
    return any(constant_time_compare(given, one) for one in hashes)


def _store() -> Any:
    return import_module(django_settings.SESSION_ENGINE).SessionStore


def _sessions(keys: set[str]) -> dict[str, dict[str, Any]]:
    """Return the data of the sessions that are still alive. With the database's sessions, in one query."""
    store = _store()
    if not keys:
        return {}
    if issubclass(store, DatabaseStore) and store.load is DatabaseStore.load:
        empty = store()
        rows = empty.model.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
        return {key: empty.decode(data) for key, data in rows.values_list("session_key", "session_data")}
    loaded = {}
    for key in keys:
        one = store(key)
        data = one.load()
        if one.session_key == key:  # a store forgets the key of a session that it does not find
            loaded[key] = data
    return loaded


def _users(keys: Iterable[str]) -> dict[str, Any]:
    model = get_user_model()
    wanted = []
    for key in keys:
        try:
            wanted.append(model._meta.pk.to_python(key))
        except ValidationError:
            continue
    rows = model._default_manager.filter(pk__in=wanted) if wanted else ()
    return {str(user.pk): user for user in rows}


class _Count:
    """Counts the queries of the connections of this thread."""

    def __init__(self) -> None:
        self.queries = 0

    def begin(self) -> ExitStack:
        stack = ExitStack()
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(self._execute))
        return stack

    def _execute(self, execute: Callable[..., Any], *args: Any) -> Any:
        self.queries += 1
        return execute(*args)


def _close(opened: ExitStack) -> None:
    opened.close()
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # a test's transaction
            connection.close()
