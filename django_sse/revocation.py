"""Rights that end while streams are open: closing streams, from any process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from asgiref.sync import sync_to_async
from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_out
from django.contrib.sessions.backends.signed_cookies import SessionStore as CookieStore
from django.db import Error as DatabaseFailure
from django.db import transaction
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from django_sse.channels import check_channel
from django_sse.conf import settings
from django_sse.control import REASON_LENGTH, Notice, fingerprint
from django_sse.grant import user_fingerprint
from django_sse.publish import send_notice
from django_sse.recheck import session_store
from django_sse.unspoken import Unspoken

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["aclose_streams", "close_streams", "connect"]

logger = logging.getLogger(__name__)

MEMBERS: Final = 1000
"""Users that a notice names; of a larger group every stream is asked."""
_RIGHTS: Final = frozenset({"is_staff", "is_superuser"})
_COMPARED: Final = _RIGHTS | {"password"}
_STORED: Final = "_django_sse_stored"
"""The attribute of a user that is being saved; on the instance, so that no other thread sees it."""


class _Stored(NamedTuple):
    """What a user had before a save: of several, if one save is nested in another or the one before it failed."""

    rights: frozenset[str]
    fingerprints: frozenset[str]


def close_streams(
    *, user: object = None, channel: str | None = None, reason: str = "closed", final: bool = True
) -> None:
    """Close the open streams of ``user``, or those that have ``channel``, or those of which both is true.

    They end with ``sse.close`` and ``reason`` (1 to 100 characters) in every process, by the doorbell or within
    ``POLL_INTERVAL``. ``user``: a user or a primary key. ``final=False`` tells the package's client to come back, as
    browsers' own do in any case: so take the right away first, in the same transaction. Rolled back, nothing is closed.

    Raises ``ValueError`` without user and channel, or for a reason or channel that cannot be one, and what the
    database raises.
    """
    if user is None and channel is None:
        raise ValueError("close_streams() needs user= or channel=; it does not close every stream there is.")
    if not isinstance(reason, str) or not 1 <= len(reason) <= REASON_LENGTH:
        raise ValueError(f"reason {reason!r:.120} is not a text of 1 to {REASON_LENGTH} characters.")
    users = None if user is None else frozenset({_key(user)})
    name = None if channel is None else check_channel(channel)
    send_notice(Notice(reason, users, channel=name, final=final).encode())


async def aclose_streams(
    *, user: object = None, channel: str | None = None, reason: str = "closed", final: bool = True
) -> None:
    """``close_streams`` for async code."""
    await sync_to_async(close_streams)(user=user, channel=channel, reason=reason, final=final)


def connect() -> None:
    """Close streams when Django's signals tell that a right has ended: logout, password, deactivation, groups."""
    if not apps.is_installed("django.contrib.auth"):
        return
    from django.contrib.auth.models import Group

    model: Any = get_user_model()
    user_logged_out.connect(_logged_out)
    # Each by name: a receiver of post_delete for every model would take Django's fast deletes away from all of them.
    for sender in apps.get_models():
        if issubclass(sender, model):  # the model itself, its proxies, and models that extend it
            pre_save.connect(_user_to_be_saved, sender=sender)
            post_save.connect(_user_saved, sender=sender)
            post_delete.connect(_user_deleted, sender=sender)
    pre_delete.connect(_group_deleted, sender=Group)
    m2m_changed.connect(_permissions_of_group, sender=Group.permissions.through)
    for field in ("groups", "user_permissions"):
        if hasattr(model, field):
            m2m_changed.connect(_rights_of_user, sender=getattr(model, field).through)


def _key(user: object) -> str:
    key = user.pk if isinstance(user, Model) or hasattr(user, "pk") else user
    if key is None:
        raise ValueError("This user has no primary key, so no streams.")
    return str(key)


def _tell(notice: Notice, using: str | None = None) -> None:
    """Send ``notice`` with what happens in the database ``using``. Never raises: what happens must not fail for it."""

    def write() -> None:
        try:
            with transaction.atomic(using=settings.DATABASE):
                send_notice(notice.encode())
        except DatabaseFailure:
            logger.exception("Streams could not be told that a right ended; they are asked within RECHECK")

    if using is None or using == settings.DATABASE:
        write()
    else:
        transaction.on_commit(write, using=using)


def _logged_out(*, request: Any, user: Any, **kwargs: Any) -> None:
    session_key = getattr(getattr(request, "session", None), "session_key", None)
    if issubclass(session_store(), CookieStore):  # the key is the cookie, and changes with it
        if user is not None:
            _tell(Notice("logout", frozenset({_key(user)})))
    elif session_key:
        _tell(Notice("logout", session=fingerprint(session_key)))


def _user_to_be_saved(
    *, sender: Any, instance: Any, raw: bool, using: str, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    """Note on ``instance`` what it can lose by being saved: one query, by primary key."""
    compared = _COMPARED if update_fields is None else _COMPARED & update_fields
    if raw or instance.pk is None or not compared:
        return
    try:
        stored = sender._base_manager.using(using).filter(pk=instance.pk).first()
        if stored is None:
            return
        rights = frozenset(name for name in _RIGHTS & compared if getattr(stored, name, False))
        fingerprints = frozenset({user_fingerprint(stored)} if "password" in compared else ())
    except Exception as error:  # a user model of the project's own; its save must not fail for us
        logger.error("A user could not be compared with what is stored", exc_info=Unspoken(error))
        return
    earlier = vars(instance).get(_STORED, _Stored(frozenset(), frozenset()))
    setattr(instance, _STORED, _Stored(earlier.rights | rights, earlier.fingerprints | fingerprints))


def _user_saved(
    *, instance: Any, created: bool, raw: bool, using: str, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    stored = vars(instance).pop(_STORED, None)
    if created or raw:
        return
    users = frozenset({_key(instance)})
    lost = _lost(instance, stored) if stored else _COMPARED & (update_fields or frozenset())
    # Django keeps the raw password until after this signal.
    has_new_password = getattr(instance, "_password", None) is not None or "password" in lost
    if not getattr(instance, "is_active", True):
        _tell(Notice("deactivated", users), using)
    elif has_new_password:
        _tell(Notice("password", users, final=False), using)  # where it was changed, the session goes on
    elif lost:
        _tell(Notice("rights", users, ask=True), using)


def _lost(instance: Any, stored: _Stored) -> frozenset[str]:
    """Return what ``instance`` had when it was ``stored`` and has no more."""
    try:
        lost = {name for name in stored.rights if not getattr(instance, name, False)}
        if stored.fingerprints and stored.fingerprints - {user_fingerprint(instance)}:
            lost.add("password")
    except Exception as error:  # as above
        logger.error("A user could not be compared with what was stored", exc_info=Unspoken(error))
        return stored.rights
    return frozenset(lost)


def _user_deleted(*, instance: Any, using: str, **kwargs: Any) -> None:
    # The key is still there: Django takes it off the instance after this signal.
    _tell(Notice("deactivated", frozenset({_key(instance)})), using)


def _rights_of_user(
    *, instance: Any, action: str, reverse: bool, pk_set: set[Any] | None, using: str, **kwargs: Any
) -> None:
    if action not in ("post_remove", "post_clear"):
        return
    members: Iterable[Any] | None = pk_set if reverse else [instance.pk]  # cleared from the group's side: None, so all
    _ask(members, using)


def _permissions_of_group(*, instance: Any, action: str, reverse: bool, using: str, **kwargs: Any) -> None:
    if action in ("post_remove", "post_clear"):
        _ask(None if reverse else _members(instance, using), using)


def _group_deleted(*, instance: Any, using: str, **kwargs: Any) -> None:
    _ask(_members(instance, using), using)


def _members(group: Any, using: str) -> list[Any] | None:
    model: Any = get_user_model()
    if not hasattr(model, "groups"):
        return []
    keys = list(model._base_manager.using(using).filter(groups=group).values_list("pk", flat=True)[: MEMBERS + 1])
    return keys if len(keys) <= MEMBERS else None


def _ask(users: Iterable[Any] | None, using: str) -> None:
    named = None if users is None else frozenset(map(str, users))
    if named is None or named:
        _tell(Notice("rights", named, ask=True), using)
