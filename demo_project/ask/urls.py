from __future__ import annotations

from django.urls import path

from demo_project.ask import views

urlpatterns = [
    path("", views.ask, name="ask"),
    path("begin/", views.begin, name="ask-begin"),
    path("<slug:id>/", views.ask, name="ask-answer"),
    path("<slug:id>/stream/", views.Answer.as_view(), name="ask-stream"),
    path("<slug:id>/stop/", views.stop, name="ask-stop"),
    path("<slug:id>/whole/", views.whole, name="ask-whole"),
]
