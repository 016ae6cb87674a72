"""The channel of the dashboard, and what is said on it.

``public.``: under django_sse's built-in rules everyone may read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.utils import timezone

from django_sse import send_event

if TYPE_CHECKING:
    from typing import Literal

__all__ = ["DASHBOARD", "notify", "tell_alert"]

DASHBOARD: Final = "public.dashboard"


def notify(title: str, body: str = "") -> None:
    """Ring the bell of every open dashboard."""
    send_event(DASHBOARD, "notification", {"title": title, "body": body, "at": timezone.now()})


def tell_alert(name: str, level: Literal["warning", "critical"], text: str, *, raised: bool) -> None:
    """Raise the alert ``name``, or clear it."""
    send_event(
        DASHBOARD,
        "alert",
        {"name": name, "level": level, "text": text, "raised": raised, "at": timezone.now()},
    )
