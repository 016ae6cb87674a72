from __future__ import annotations

from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "demo_project.dashboard"

    def ready(self) -> None:
        from demo_project.dashboard import connections  # needs the models of django_sse

        connections.watch()
