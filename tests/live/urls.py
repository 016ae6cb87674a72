from __future__ import annotations

from django.urls import include, path

from django_sse.views import EventStreamView
from tests.live import views

urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("fixed/", EventStreamView.as_view(channels=["public.fixed"])),
    path("publish/async/", views.publish_async),
    path("publish/<str:how>/", views.publish),
    path("generate/", views.generate),
    path("generate/production/", views.production),
    path("trim/<int:keep>/", views.trim),
]
