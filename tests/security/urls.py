from __future__ import annotations

from django.urls import include, path

from tests.security import views

urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("in/", views.log_in),
    path("out/", views.log_out),
    path("do/<str:cause>/<int:pk>/", views.do),
    path("send/<str:channel>/", views.send),
    path("mine/<int:pk>/", views.Mine.as_view()),
    path("function/<int:pk>/", views.function),
]
