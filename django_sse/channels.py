"""The names of channels: what a client subscribes to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from django_sse.exceptions import InvalidChannel

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

__all__ = ["PUBLIC", "check_channel", "user_channel"]

PUBLIC: Final = "public."
"""The prefix of the channels that everyone may read under the built-in rules."""

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
