"""A project's own store of sessions, made of Django's signed cookies."""

from __future__ import annotations

from django.contrib.sessions.backends import signed_cookies

__all__ = ["SessionStore"]


class SessionStore(signed_cookies.SessionStore):
    """Under another name."""
