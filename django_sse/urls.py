"""``path("events/", include("django_sse.urls"))``: one stream whose channels the client asks for."""

from __future__ import annotations

from django.urls import path

from django_sse.views import EventStreamView

app_name = "django_sse"
urlpatterns = [path("", EventStreamView.as_view(), name="events")]
