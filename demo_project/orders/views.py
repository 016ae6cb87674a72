from __future__ import annotations

from typing import TYPE_CHECKING, Final

from django.db import transaction
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_POST, require_safe

from demo_project.answer import done
from demo_project.orders import samples
from demo_project.orders.models import Order, count_by_state
from django_sse import get_head

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

__all__ = ["advance", "create", "delete", "orders"]

SHOWN: Final = 40


@require_safe
def orders(request: HttpRequest) -> HttpResponse:
    # Head first, rows after it: what is saved between the two is in the rows and comes again as an event,
    # which does no harm. The other way round it would be in neither.
    position = get_head()
    rows = list(Order.objects.all()[:SHOWN])
    context = {"position": position, "orders": rows, "counts": count_by_state(), "blank": Order(pk=0)}
    return render(request, "orders.html", context)


@require_POST
def create(request: HttpRequest) -> HttpResponse:
    samples.place()
    return done(request, "orders")


@require_POST
def advance(request: HttpRequest, pk: int) -> HttpResponse:
    with transaction.atomic():
        order = get_object_or_404(Order, pk=pk)
        # The button names the state it leads to: pressed in two tabs at once, it leads there once.
        if order.following and request.POST.get("to") == order.following:
            order.state = order.following
            order.save()
    return done(request, "orders")


@require_POST
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    with transaction.atomic():
        if order := Order.objects.filter(pk=pk).first():
            order.delete()
    return done(request, "orders")
