"""A short secret within something that is signed but that anybody can read, such as a ticket."""

from __future__ import annotations

from secrets import token_bytes
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.core.signing import b64_decode, b64_encode
from django.utils.crypto import salted_hmac

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LONGEST", "seal", "unseal"]

LONGEST: Final = 64
"""Bytes: those of a pad, which is one output of HMAC-SHA-512."""
_NONCE: Final = 16


def seal(secret: str) -> str | None:
    """Return ``secret`` as only those can read it who have the ``SECRET_KEY``; None: it is too long.

    Whoever signs the whole also makes sure that it was not changed: the seal alone does not tell.
    """
    data = secret.encode()
    if len(data) > LONGEST:
        return None
    nonce = token_bytes(_NONCE)
    return b64_encode(nonce + _mix(data, nonce, settings.SECRET_KEY)).decode()


def unseal(sealed: str) -> Iterator[str]:
    """Yield what ``sealed`` may hold: for each of ``SECRET_KEY`` and ``SECRET_KEY_FALLBACKS`` what it would be."""
    data = b64_decode(sealed.encode())
    for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        yield _mix(data[_NONCE:], data[:_NONCE], key).decode(errors="replace")


def _mix(data: bytes, nonce: bytes, key: str | bytes) -> bytes:
    """Return ``data`` with a pad that is used for it alone: what it hides and what it shows again."""
    pad = salted_hmac("django_sse.seal", nonce, secret=key, algorithm="sha512").digest()
    return bytes(one ^ other for one, other in zip(data, pad, strict=False))
