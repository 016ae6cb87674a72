from __future__ import annotations

from django.urls import path

from demo_project.raw import views

urlpatterns = [
    path("", views.raw, name="raw"),
    path("job/", views.job, name="raw-job"),
    path("<slug:kind>/", views.publish, name="raw-publish"),
]
