from __future__ import annotations

import os
from typing import Any, cast

from django_sse.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "demo_project.settings")
http = get_asgi_application()

# A project without WebSockets has application = get_asgi_application(), and nothing of what follows.
from channels.auth import AuthMiddlewareStack  # noqa: E402 - imports models
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402

from demo_project.versus.urls import websocket_urlpatterns  # noqa: E402

websocket = AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(cast("Any", websocket_urlpatterns))))
application = ProtocolTypeRouter({"http": http, "websocket": websocket})
