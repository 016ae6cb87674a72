from __future__ import annotations

from django.contrib import admin
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

from tests.security import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("events/", include("django_sse.urls")),
    path("in/", views.log_in),
    path("out/", views.log_out),
    path("boss/", views.boss),
    path("do/<str:cause>/<int:pk>/", views.do),
    path("slow/", views.slow),
    path("cached/", views.cached),
    path("own/", views.Own.as_view()),
    path("send/<str:channel>/", views.send),
    path("mine/<int:pk>/", views.Mine.as_view()),
    path("function/<int:pk>/", views.function),
]
urlpatterns += staticfiles_urlpatterns()
