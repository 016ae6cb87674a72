from __future__ import annotations

from typing import Any, cast

from django.urls import path

from demo_project.versus import consumers, views

urlpatterns = [
    path("", views.versus, name="versus"),
    path("<slug:run>/publish/", views.publish, name="versus-publish"),
]
websocket_urlpatterns = [
    path("versus/chat/", cast("Any", consumers.Chat.as_asgi())),
    path("versus/<slug:run>/", cast("Any", consumers.Notifications.as_asgi())),
]
