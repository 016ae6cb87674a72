"""Tasks for a project that runs a backend of ``django.tasks``, which Django has from 6.0 on."""

from __future__ import annotations

from django.tasks import task

from django_sse import retention

__all__ = ["trim"]


@task
def trim() -> int:
    """Trim the log as ``sse_trim`` does: ``trim.enqueue()``, say once an hour."""
    return retention.apply()
