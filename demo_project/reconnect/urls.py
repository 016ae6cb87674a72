from __future__ import annotations

from django.urls import path

from demo_project.reconnect import views

# A slug holds only what a channel's name may hold too.
urlpatterns = [
    path("", views.reconnect, name="reconnect"),
    path("<slug:run>/stream/", views.RunStream.as_view(), name="reconnect-stream"),
    path("<slug:run>/publish/", views.publish, name="reconnect-publish"),
]
