"""Where a request comes from, as far as it can be believed."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from django_sse.conf import settings

if TYPE_CHECKING:
    from django.http import HttpRequest

__all__ = ["client_address"]

_NETWORK: Final = 2**64 - 1
"""The bits of an IPv6 address that a client chooses itself."""


def client_address(request: HttpRequest) -> str:
    """Return the client's address, for counting; an IPv6 client is its /64 network, since it owns all of that.

    ``REMOTE_ADDR``, unless ``TRUSTED_PROXIES`` says how many proxies of yours append to ``X-Forwarded-For``: then the
    entry that the outermost of them wrote. What stands before it, the client wrote itself.
    """
    address = request.META.get("REMOTE_ADDR") or ""
    if settings.TRUSTED_PROXIES:
        entries = [entry.strip() for entry in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")]
        if len(entries) >= settings.TRUSTED_PROXIES:
            address = entries[-settings.TRUSTED_PROXIES] or address
    try:
        parsed = ip_address(_without_port(address))
    except ValueError:
        return address[:100]
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) & ~_NETWORK))
    return str(parsed)


def _without_port(entry: str) -> str:
    """Return the address of an ``entry`` in which some proxies write the port too: it differs with each connection."""
    if entry.startswith("["):
        return entry[1:].partition("]")[0]
    host, _, port = entry.partition(":")
    return host if port.isdecimal() else entry  # two colons or more: an IPv6 address
