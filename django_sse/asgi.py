"""The ASGI application of a project that serves event streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.asgi import get_asgi_application as django_asgi_application

if TYPE_CHECKING:
    from django.core.handlers.asgi import ASGIHandler

__all__ = ["get_asgi_application"]


def get_asgi_application() -> ASGIHandler:
    """Return the application for ``asgi.py``, in place of ``django.core.asgi.get_asgi_application``.

    Today it is Django's own. Streams that outlive their request without holding its thread will be served here.
    """
    return django_asgi_application()
