"""What is kept of the log: ``settings.RETENTION``, applied."""

from __future__ import annotations

from django_sse import log
from django_sse.conf import settings

__all__ = ["apply"]


def apply() -> int:
    """Trim the log to ``settings.RETENTION``; return how many events went. Safe at any time, from any process."""
    retention = settings.RETENTION
    return log.trim(older_than=retention.get("MAX_AGE"), keep=retention.get("MAX_EVENTS"))
