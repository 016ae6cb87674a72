from __future__ import annotations

import os
from typing import Any

from django.core.asgi import get_asgi_application as django_asgi_application

from django_sse.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

# PLAIN: as in a project that did not change its asgi.py.
_django = django_asgi_application() if os.environ.get("PLAIN") else get_asgi_application()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Django, and one path at which an application fails before it has answered."""
    if scope.get("path") == "/crash/":
        raise RuntimeError("nothing answers here")
    await _django(scope, receive, send)
