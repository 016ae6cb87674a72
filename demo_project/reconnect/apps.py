from __future__ import annotations

from django.apps import AppConfig


class ReconnectConfig(AppConfig):
    name = "demo_project.reconnect"

    def ready(self) -> None:
        from demo_project.reconnect import visits  # needs the models of django_sse

        visits.watch()
