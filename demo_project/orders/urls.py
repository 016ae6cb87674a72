from __future__ import annotations

from django.urls import path

from demo_project.orders import views

urlpatterns = [
    path("", views.orders, name="orders"),
    path("create/", views.create, name="order-create"),
    path("<int:pk>/advance/", views.advance, name="order-advance"),
    path("<int:pk>/delete/", views.delete, name="order-delete"),
]
