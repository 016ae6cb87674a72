"""A project with every kind of right, and a view that ends each of them."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from django.contrib.auth import login, logout
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.http import HttpResponse, JsonResponse

from django_sse import close_streams, send_event
from django_sse.access import Rules, own, permission
from django_sse.views import EventStreamView, event_stream
from tests.shop.models import Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.models import QuerySet
    from django.http import HttpRequest


def _orders(request: Any, channel: str, pk: int) -> QuerySet[Order]:
    return Order.objects.filter(pk=pk, state=f"of {request.user.pk}")


def _team(request: Any, channel: str, name: str) -> QuerySet[Group]:
    return request.user.groups.filter(name=name)


rules = Rules(
    {
        "public.*": True,
        "user.<pk>": own,
        "order.<int:pk>": _orders,
        "team.<name>": _team,
        "report.*": permission("shop.view_order"),
        "secret.*": False,
    }
)


def log_in(request: HttpRequest) -> JsonResponse:
    """Make a user with every right, log in, and say what they may read."""
    user = User.objects.create_user(uuid4().hex, password="before")
    order = Order.objects.create(state=f"of {user.pk}")
    team = Group.objects.create(name=user.username)
    team.permissions.add(Permission.objects.get(codename="view_order"))
    user.groups.add(team)
    login(request, user, "django.contrib.auth.backends.ModelBackend")
    channels = [f"user.{user.pk}", f"order.{order.pk}", f"team.{team.name}", "report.a", "public.a"]
    return JsonResponse({"user": user.pk, "channels": channels})


def boss(request: HttpRequest) -> HttpResponse:
    """Log in as somebody who may see the admin."""
    user = User.objects.create_superuser(uuid4().hex)
    login(request, user, "django.contrib.auth.backends.ModelBackend")
    return HttpResponse("in")


def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("out")


def _password(user: User) -> None:
    user.set_password("after")
    user.save()


def _deactivate(user: User) -> None:
    user.is_active = False
    user.save()


def _permission(user: User) -> None:
    user.groups.get().permissions.clear()


def _sessions(user: User) -> list[Session]:
    return [one for one in Session.objects.all() if one.get_decoded().get("_auth_user_id") == str(user.pk)]


def _expire(user: User) -> None:
    for session in _sessions(user):
        session.expire_date = session.expire_date.replace(year=2000)
        session.save()


CAUSES: dict[str, Callable[[User], object]] = {
    "password": _password,
    "deactivated": _deactivate,
    "deleted": lambda user: user.delete(),
    "group": lambda user: user.groups.clear(),
    "group-deleted": lambda user: user.groups.get().delete(),
    "permission": _permission,
    "closed-by-user": lambda user: close_streams(user=user, reason="because"),
    "closed-by-channel": lambda user: close_streams(channel=f"user.{user.pk}", reason="because"),
    # Nothing tells of these.
    "session-deleted": lambda user: [one.delete() for one in _sessions(user)],
    "session-expired": _expire,
    "object": lambda user: Order.objects.filter(state=f"of {user.pk}").update(state="nobody's"),
    "deactivated-unseen": lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
    "password-unseen": lambda user: User.objects.filter(pk=user.pk).update(password="after"),
}


def do(request: HttpRequest, cause: str, pk: int) -> HttpResponse:
    CAUSES[cause](User.objects.get(pk=pk))
    return HttpResponse("done")


async def slow(request: HttpRequest) -> HttpResponse:
    """Answer later than any test waits."""
    await asyncio.sleep(600)
    return HttpResponse("at last")


def cached(request: HttpRequest) -> HttpResponse:
    """Answer what any cache may keep, and differently each time."""
    return HttpResponse(uuid4().hex)


def send(request: HttpRequest, channel: str) -> HttpResponse:
    send_event(channel, text=json.loads(request.body))
    return HttpResponse("sent")


class Mine(EventStreamView):
    """The developer's word is the permission, so it is the developer who is asked again."""

    def get_channels(self, request: Any) -> list[str]:
        mine = Order.objects.filter(pk=self.kwargs["pk"], state=f"of {request.user.pk}")
        return [f"anything.{self.kwargs['pk']}"] if mine.exists() else []


class Own(EventStreamView):
    """One address for everybody, and for each the channel of their own."""

    async def get_channels(self, request: Any) -> list[str]:
        user = await request.auser()
        return [f"user.{user.pk}"] if user.is_authenticated else []


async def function(request: HttpRequest, pk: int) -> Any:
    def allowed(request: Any) -> bool:
        return Order.objects.filter(pk=pk, state=f"of {request.user.pk}").exists()

    return await event_stream(request, [f"anything.{pk}"], allowed=allowed)
