from __future__ import annotations

import os

from django.core.asgi import get_asgi_application as django_asgi_application

from django_sse.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

# PLAIN: as in a project that did not change its asgi.py.
application = django_asgi_application() if os.environ.get("PLAIN") else get_asgi_application()
