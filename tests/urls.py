from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from django_sse.views import EventStreamView

urlpatterns = [
    path("admin/", admin.site.urls),
    path("events/", include("django_sse.urls")),
    path("fixed/", EventStreamView.as_view(channels=["orders"])),
    path("last/", EventStreamView.as_view(channels=["orders"], last=3)),
]
