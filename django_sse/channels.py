"""The names of channels: what a client subscribes to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from django_sse.exceptions import InvalidChannel

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

__all__ = ["PUBLIC", "TOKENS", "check_channel", "is_token_channel", "token_channel", "token_owner", "user_channel"]

PUBLIC: Final = "public."
"""The prefix of the channels that everyone may read under the built-in rules."""

TOKENS: Final = "tokens."
"""The prefix of the channels of generated texts."""

_NAME: Final = re.compile(r"[A-Za-z0-9._~-]{1,100}")


def check_channel(channel: object) -> str:
    """Return ``channel`` if it is a channel name, else raise ``InvalidChannel``.

    The characters are the unreserved ones of RFC 3986, so that a name is the same in a URL, a header and a log.
    """
    if isinstance(channel, str) and _NAME.fullmatch(channel):
        return channel
    raise InvalidChannel(f"{channel!r:.120} is not a channel name: 1 to 100 of A-Z a-z 0-9 . _ ~ -")


def user_channel(user: AbstractBaseUser) -> str:
    """Return the channel that ``user`` alone may read under the built-in rules: ``user.<pk>``.

    Raises ``InvalidChannel`` for a user that was not saved, or whose key has other characters than a channel name.
    """
    if user.pk is None:
        raise InvalidChannel("This user has no primary key, so no channel: save it first, or log in.")
    return check_channel(f"user.{user.pk}")


def token_channel(user: AbstractBaseUser, name: object) -> str:
    """Return the channel of a generated text that ``user`` alone may read: ``tokens.<pk>.<name>``.

    Raises ``InvalidChannel`` as ``user_channel``, and for a name with a dot: it could be a part of another user's key.
    """
    user_channel(user)
    if "." in str(name):
        raise InvalidChannel(f"{name!r:.120} cannot name a text: it has a dot.")
    return check_channel(f"{TOKENS}{user.pk}.{name}")


def token_owner(channel: str) -> str | None:
    """Return the primary key of the user whose generated text ``channel`` has; None: it is no such channel."""
    owner, _, name = channel.removeprefix(TOKENS).rpartition(".")
    return owner if channel.startswith(TOKENS) and owner and name else None


def is_token_channel(channel: str, user: AbstractBaseUser) -> bool:
    """Tell whether ``channel`` is one of ``token_channel(user, …)``."""
    return user.pk is not None and token_owner(channel) == str(user.pk)
