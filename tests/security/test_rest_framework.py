"""The recipe of the documentation, with the real Django REST framework."""

from __future__ import annotations

import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.test import AsyncClient, RequestFactory

from django_sse import aclose_streams, asend_event
from django_sse.testing import listen
from django_sse.tickets import sign_ticket
from tests.security.people import logged_in
from tests.security.streams import farewell, is_open
from tests.security.waiting import until

pytestmark = pytest.mark.usefixtures("committed")

PAGE = (Path(__file__).parent.parent.parent / "docs/streams.md").read_text()


def recipe() -> dict[str, Any]:
    code = next(code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "rest_framework" in code)
    found: dict[str, Any] = {}
    exec(compile(code.replace("TokenAuthentication", "BasicAuthentication"), "docs/streams.md", "exec"), found)
    return found


asked: list[str] = []


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    may_read = recipe()["may_read"]
    asked.clear()

    async def counted(request: Any, channel: str) -> Any:
        asked.append(channel)
        return await may_read(request, channel)

    settings.REST_FRAMEWORK = {"UNAUTHENTICATED_USER": None}
    settings.DJANGO_SSE = {"POLL_INTERVAL": 0.1, "RECHECK": 0.2, "AUTHORIZE": counted}


def credentials(password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"ann:{password}".encode()).decode()}


async def status(address: str, headers: dict[str, str]) -> int:
    response: Any = await AsyncClient().get(address, headers=headers)
    return response.status_code


async def test_it_opens_and_closes_streams() -> None:
    user = await User.objects.acreate_user("ann", password="right")
    address = f"/events/?channel=user.{user.pk}"
    assert await status(address, {}) == 403
    assert await status(address, credentials("wrong")) == 403
    assert await status("/events/?channel=user.0", credentials("right")) == 403

    client = AsyncClient()
    get = client.get
    client.get = lambda path, headers: get(path, headers={**headers, **credentials("right")})  # type: ignore[method-assign]
    async with listen(client, address) as events, listen(client, address) as others:
        await until(lambda: len(asked) > 8)  # again and again
        await asend_event(f"user.{user.pk}", None, "mine")
        assert (await events.next()).json() == "mine"
        assert (await others.next()).json() == "mine"
        await aclose_streams(user=user, channel=f"user.{user.pk}", reason="by user")
        assert (await others.next()).data == '{"reason": "by user"}'
    async with listen(client, address) as events:
        user.set_password("changed")
        await User.objects.filter(pk=user.pk).aupdate(password=user.password)  # nothing tells of it
        assert (await events.next()).data == '{"reason": "denied"}'


class TestBesideTheSessionOfAnother:
    """One browser in which somebody is logged in, and an app in it that has a token of somebody else."""

    async def test_the_stream_stays_until_that_session_is_logged_out_of(self, settings: Any) -> None:
        settings.DJANGO_SSE = {**settings.DJANGO_SSE, "RECHECK": 0.1}
        user = await User.objects.acreate_user("ann", password="right")
        _, client = await logged_in("bob")
        get = client.get
        client.get = lambda path, headers: get(path, headers={**headers, **credentials("right")})  # type: ignore[method-assign]
        async with listen(client, f"/events/?channel=user.{user.pk}") as events:
            await is_open(events, f"user.{user.pk}")
            await until(lambda: len(asked) > 4, seconds=10)
            await is_open(events, f"user.{user.pk}")
            await client.alogout()
            assert await farewell(events) == "logout"

    async def test_a_ticket_is_good_until_that_session_is_logged_out_of(self) -> None:
        user = await User.objects.acreate_user("ann", password="right")
        bob, client = await logged_in("bob")

        def sign() -> str:
            request: Any = RequestFactory().get("/", headers=credentials("right"))
            request.user, request.session = bob, client.session
            assert recipe()["authenticate"](request)
            assert request.user == user
            return sign_ticket(request, [f"user.{user.pk}"])

        address = f"/events/?channel=user.{user.pk}&ticket={await sync_to_async(sign)()}"
        async with listen(AsyncClient(), address) as events:
            await until(lambda: len(asked) > 4, seconds=10)
            await is_open(events, f"user.{user.pk}")
            await client.alogout()
            assert await farewell(events) == "logout"
        assert await status(address, {}) == 403
