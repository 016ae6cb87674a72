from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.shortcuts import render
from django.views.decorators.http import require_POST, require_safe

from demo_project.answer import done
from demo_project.dashboard.channel import notify, tell_alert

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

__all__ = ["alert", "dashboard", "notification"]

_TITLE: Final = "Hello from another tab"
_LONGEST: Final = 140


@require_safe
def dashboard(request: HttpRequest) -> HttpResponse:
    return render(request, "dashboard.html", {"title": _TITLE, "longest": _LONGEST})


@require_POST
def notification(request: HttpRequest) -> HttpResponse:
    title = request.POST.get("title", "").strip()[:_LONGEST]
    notify(title or _TITLE)
    return done(request, "dashboard")


@require_POST
def alert(request: HttpRequest) -> HttpResponse:
    raised = request.POST.get("raised") == "yes"
    tell_alert("drill", "warning", "This is a drill: someone pressed the button", raised=raised)
    return done(request, "dashboard")
