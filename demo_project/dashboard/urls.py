from __future__ import annotations

from django.urls import path

from demo_project.dashboard import views

urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("notification/", views.notification, name="notification"),
    path("alert/", views.alert, name="alert"),
]
