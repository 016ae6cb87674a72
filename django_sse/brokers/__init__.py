"""The doorbells between processes, and the one that is configured."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from django_sse.brokers.base import Broker, Listener
from django_sse.conf import settings

__all__ = ["Broker", "Listener", "get_broker"]

_configured: list[Broker] = []


def get_broker() -> Broker:
    """Return this process's broker. Raises ``ImproperlyConfigured`` where ``BROKER`` names none."""
    if not _configured:
        config = settings.BROKER
        try:
            backend = import_string(config["BACKEND"])
        except ImportError as error:
            raise ImproperlyConfigured(f"DJANGO_SSE['BROKER'] cannot be loaded: {error}") from error
        _configured.append(backend(config.get("OPTIONS", {})))
    return _configured[0]


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "DJANGO_SSE":
        _configured.clear()


setting_changed.connect(_forget)
