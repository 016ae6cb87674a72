from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db import models


class Router:
    """The log has a database of its own."""

    def db_for_read(self, model: type[models.Model], **hints: object) -> str | None:
        return "log" if model._meta.app_label == "django_sse" else None

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, **hints: object) -> bool:
        return (db == "log") == (app_label == "django_sse")
