"""Who the users behind many open streams are now, and whether their sessions still are."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple

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
from django.contrib.sessions.backends.cache import SessionStore as CacheStore
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.core.cache.backends.base import InvalidCacheKey
from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from django_sse.descriptors import needs_descriptors
from django_sse.grant import user_fingerprint
from django_sse.unspoken import Unspoken

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from django_sse.grant import Grant

__all__ = ["DENIED", "Who", "denied", "identify", "is_of", "of_session", "read_sessions", "session_store"]

logger = logging.getLogger(__name__)

EXPIRED: Final = "expired"
"""The session is gone, or is not this user's any more."""
DEACTIVATED: Final = "deactivated"
"""The user is gone, or may not log in any more."""
DENIED: Final = "denied"
"""The authoriser no longer says yes."""


class Who(NamedTuple):
    """A user and a session, as they are now."""

    user: Any
    session: Any
    data: dict[str, Any] | None = None
    """Of a session whose backend is the project's own, and still to be asked for the user."""


def denied(error: Exception) -> str:
    """Return the reason for a stream of which ``error`` was raised while somebody was asked."""
    logger.error("What decides about a stream raised, so it is closed", exc_info=Unspoken(error))
    return DENIED


def identify(grants: Sequence[Grant]) -> list[Who | str]:
    """Return the user and session of each grant as they are now, or why it has none any more.

    Sessions and users are read with one query each. Raises what the database raises: then nothing was found out.
    """
    sessions = read_sessions({key for grant in grants for key in (grant.session_key, grant.bound_key) if key})
    users = _users({grant.user for grant in grants if grant.user})
    found: list[Who | str] = []
    for grant in grants:
        user = users.get(grant.user) if grant.user else AnonymousUser()
        try:
            found.append(_who(grant, sessions, user))
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:  # a user model of the project's own
            found.append(denied(error))
    return found


def _who(grant: Grant, sessions: dict[str, dict[str, Any]], user: Any) -> Who | str:
    data = sessions.get(grant.session_key or "")
    session = session_store()(grant.session_key if data is not None else None)
    session._session_cache = data or {}
    is_gone = (grant.by_session and not is_of(data, grant.user)) or (
        grant.bound_key is not None and not is_of(sessions.get(grant.bound_key), grant.user)
    )
    if is_gone or (grant.until is not None and timezone.now().timestamp() > grant.until):
        return EXPIRED
    if user is None:
        return DEACTIVATED
    if grant.auth_hash and grant.auth_hash != user_fingerprint(user):
        return EXPIRED
    if grant.bound_key is not None:  # its backend is asked as for a cookie; the request is given no session
        data = sessions[grant.bound_key]
    elif not grant.by_session:
        data = None
    if data is not None:
        backend = _backend(data)
        if backend and type(backend).get_user is not ModelBackend.get_user:
            return Who(user, session, data)
        user = of_session(data, user)
        return user if isinstance(user, str) else Who(user, session)
    return Who(user, session) if getattr(user, "is_active", True) or not grant.user else DEACTIVATED


def _backend(data: dict[str, Any]) -> Any:
    path: Any = data.get(BACKEND_SESSION_KEY)
    return load_backend(path) if path in django_settings.AUTHENTICATION_BACKENDS else None


@needs_descriptors()
def of_session(data: dict[str, Any], user: Any) -> Any:
    """Return what ``django.contrib.auth.get_user`` would, without renewing the session; or why it would return none."""
    backend = _backend(data)
    if backend is None:
        return EXPIRED
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


def session_store() -> Any:
    """Return the class of the project's sessions."""
    return import_module(django_settings.SESSION_ENGINE).SessionStore


def is_of(data: dict[str, Any] | None, user: str | None) -> bool:
    """Tell whether ``data`` are those of a session in which ``user`` is logged in."""
    return data is not None and str(data.get(SESSION_KEY)) == user


def read_sessions(keys: set[str]) -> dict[str, dict[str, Any]]:
    """Return the data of the sessions that are still alive. With the database's sessions, or the cache's, in one query.

    Raises what the database raises, and ``OperationalError`` where the cache cannot answer.
    """
    store = session_store()
    if not keys:
        return {}
    if issubclass(store, DatabaseStore) and store.load is DatabaseStore.load:
        empty = store()
        rows = empty.model.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
        return {key: empty.decode(data) for key, data in rows.values_list("session_key", "session_data")}
    if issubclass(store, CacheStore) and store.load is CacheStore.load:
        # Its load() takes any error of the cache for a session that is gone, so a cache that is away would close all.
        names = {store(key).cache_key: key for key in keys}
        return {names[name]: data for name, data in _cached(store()._cache, names).items() if data is not None}
    loaded = {}
    for key in keys:
        one = store(key)
        data = one.load()
        if one.session_key == key:  # a store forgets the key of a session that it does not find
            loaded[key] = data
    return loaded


def _cached(cache: Any, names: Iterable[str]) -> dict[str, Any]:
    try:
        return dict(cache.get_many(names))
    except Exception:  # the cache is away, or one of them cannot be read: each is asked for, so that it spoils no other
        return {name: data for name in names if (data := _cached_one(cache, name)) is not None}


def _cached_one(cache: Any, name: str) -> Any:
    """Return what ``cache`` has; None where it has nothing, or what nobody can read, which is no session for Django."""
    try:
        return cache.get(name)
    except InvalidCacheKey:
        return None
    except Exception as error:
        try:
            cache.has_key(name)  # reads no data, so that it fails where the cache is away, and not for what is in it
        except Exception:
            raise OperationalError("The cache of the sessions cannot be asked.") from error
        return None


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
