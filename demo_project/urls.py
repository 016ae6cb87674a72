from __future__ import annotations

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", include("demo_project.dashboard.urls")),
    path("orders/", include("demo_project.orders.urls")),
    path("reconnect/", include("demo_project.reconnect.urls")),
    path("ask/", include("demo_project.ask.urls")),
    path("raw/", include("demo_project.raw.urls")),
    path("versus/", include("demo_project.versus.urls")),
    path("events/", include("django_sse.urls")),
    path("admin/", admin.site.urls),
    # The admin's pages name no icon, so browsers ask for this one.
    path("favicon.ico", RedirectView.as_view(url=static("demo/icon.svg"))),
]
