"""Denied unless somebody said yes: before the first byte, and before every replay."""

from __future__ import annotations

import statistics
import time
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404
from django.test import AsyncClient
from django.urls import include, path

from django_sse import asend_event, views
from django_sse.testing import Parser, listen
from django_sse.views import EventStreamView, event_stream
from tests.security.waiting import counting

pytestmark = pytest.mark.usefixtures("committed")


class Mine(EventStreamView):
    answer: Any = None

    def get_channels(self, request: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def function(request: Any) -> Any:
    return await event_stream(request, ["a"], allowed=lambda request: request.GET.get("answer"))  # type: ignore[arg-type, return-value]


urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("events-without-slash", EventStreamView.as_view()),
    path("refused/", Mine.as_view(answer=[])),
    path("denied/", Mine.as_view(answer=PermissionDenied())),
    path("absent/", Mine.as_view(answer=Http404())),
    path("function/", function),
]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("channel", ["x", "user.1", "staff.a", "admin", "Public.a", "publicly"])
async def test_without_a_setting_a_stranger_reads_nothing(settings: Any, debug: bool, channel: str) -> None:
    settings.DEBUG = debug
    assert (await AsyncClient().get(f"/events/?channel={channel}")).status_code == 403


async def _true(request: Any, channel: str) -> bool:
    return True


class Truthy:
    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def _raises(request: Any, channel: str) -> bool:
    raise RuntimeError("with channel.secret in it")


@pytest.mark.parametrize(
    "answer", [None, 1, "yes", Truthy(), [True], (True,), {"allowed": True}, object(), _true, NotImplemented], ids=repr
)
async def test_nothing_but_true_is_a_yes(settings: Any, answer: Any) -> None:
    async def asynchronous(request: Any, channel: str) -> Any:
        return answer

    for authorize in (lambda request, channel: answer, asynchronous):
        settings.DJANGO_SSE = {"AUTHORIZE": authorize}
        assert (await AsyncClient().get("/events/?channel=a")).status_code == 403
    settings.DJANGO_SSE = {"AUTHORIZE": _true}
    async with listen(AsyncClient(), "/events/?channel=a"):
        pass


@pytest.mark.parametrize("answer", ["", "1", "True"])
async def test_nor_for_a_view_of_ones_own(answer: str) -> None:
    assert (await AsyncClient().get(f"/function/?answer={answer}")).status_code == 403


async def test_a_coroutine_that_nobody_awaited_is_awaited(settings: Any) -> None:
    async def no(request: Any, channel: str) -> bool:
        return False

    settings.DJANGO_SSE = {"AUTHORIZE": lambda request, channel: no(request, channel)}
    assert (await AsyncClient().get("/events/?channel=a")).status_code == 403


async def test_one_that_raises_denies_and_is_logged_once(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.DJANGO_SSE = {"AUTHORIZE": _raises}
    assert (await AsyncClient().get("/events/?channel=secret&channel=other")).status_code == 403
    ours = [record for record in caplog.records if record.name.startswith("django_sse")]
    assert [record.getMessage() for record in ours] == ["The authoriser raised, so access was denied"]


async def test_with_the_database_away_nobody_is_let_in_or_sent_away_for_good(settings: Any) -> None:
    """403 would end an EventSource for ever, for an outage of a second."""

    def away(request: Any, channel: str) -> bool:
        raise OperationalError("the database is away")

    settings.DJANGO_SSE = {"AUTHORIZE": away}
    response = await AsyncClient().get("/events/?channel=a")
    parser = Parser()
    assert (response.status_code, parser.feed(response.content)) == (200, [])
    assert parser.retry
    assert not parser.last_event_id


@pytest.mark.parametrize("order", [["mine", "theirs"], ["theirs", "mine"], ["theirs"]])
async def test_all_or_nothing(settings: Any, order: list[str]) -> None:
    settings.DJANGO_SSE = {"AUTHORIZE": lambda request, channel: channel == "mine"}
    query = "&".join(f"channel={channel}" for channel in order)
    response = await AsyncClient().get(f"/events/?{query}")
    assert (response.status_code, response.content) == (403, b"You may not read these channels.\n")


async def test_replay_asks_for_the_rights_of_now(settings: Any) -> None:
    allowed = {"a"}
    settings.DJANGO_SSE = {"AUTHORIZE": lambda request, channel: channel in allowed, "RECHECK": None}
    async with listen(AsyncClient(), "/events/?channel=a") as events:
        await asend_event("a", None, "while allowed")
        assert (await events.next()).json() == "while allowed"
    allowed.clear()
    await asend_event("a", None, "afterwards")
    response = await AsyncClient().get("/events/?channel=a", headers={"Last-Event-ID": "0"})
    assert (response.status_code, response.content) == (403, b"You may not read these channels.\n")


@pytest.mark.parametrize(("address", "status"), [("/refused/", 403), ("/denied/", 403), ("/absent/", 404)])
async def test_a_view_that_refuses(address: str, status: int) -> None:
    assert (await AsyncClient().get(address)).status_code == status


class TestRedirects:
    """A redirect ends an EventSource or leads it to a page of HTML."""

    @pytest.mark.parametrize(
        "middleware",
        ["django.contrib.auth.middleware.LoginRequiredMiddleware", "django.middleware.common.CommonMiddleware"],
    )
    async def test_a_stream_is_answered_where_it_is_asked_for(self, settings: Any, middleware: str) -> None:
        settings.APPEND_SLASH = True
        if middleware not in settings.MIDDLEWARE:
            settings.MIDDLEWARE = [*settings.MIDDLEWARE, middleware]
        for address in ("/events/?channel=user.1", "/events-without-slash?channel=user.1"):
            assert (await AsyncClient().get(address)).status_code == 403

    def test_the_addresses_of_the_package_end_in_a_slash(self) -> None:
        from django.urls import reverse

        assert reverse("django_sse:events") == "/events/"


class TestEnumeration:
    async def test_one_that_exists_and_one_that_does_not_are_answered_alike(self) -> None:
        user = await User.objects.acreate_user("ann")
        await asend_event(f"user.{user.pk}", None, 1)
        await asend_event("orders", None, 1)
        answers = [
            await AsyncClient().get(f"/events/?channel={channel}")
            for channel in (f"user.{user.pk}", "user.999", "orders", "nothing")
        ]
        assert {(one.status_code, one.content, tuple(sorted(one.headers.items()))) for one in answers} == {
            (403, b"You may not read these channels.\n", tuple(sorted(answers[0].headers.items())))
        }

    @pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
    async def test_and_the_log_is_not_looked_at_for_it(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, accept: str
    ) -> None:
        """Whatever it holds can make no difference then, however small. A stream reads it in threads of the hub's."""
        looked: list[Any] = []
        open_stream, due = views.Stream.open, views.due

        async def opened(channels: Any, *args: Any, **kwargs: Any) -> Any:
            looked.append(channels)
            return await open_stream(channels, *args, **kwargs)

        def polled(channels: Any, *args: Any, **kwargs: Any) -> Any:
            looked.append(channels)
            return due(channels, *args, **kwargs)

        monkeypatch.setattr(views.Stream, "open", opened)
        monkeypatch.setattr(views, "due", polled)
        user = await User.objects.acreate_user("ann")
        there = f"user.{user.pk}"
        await asend_event(there, None, 1)
        async with counting() as queries:
            for channel in (there, "user.999"):
                address = f"/events/?channel={channel}&since=0&last=5"
                response: Any = await AsyncClient().get(address, headers={"Accept": accept})
                assert response.status_code == 403
        assert looked == []
        assert not [query for query in queries if "django_sse" in query]

        settings.DJANGO_SSE = {"AUTHORIZE": _true}
        response = await AsyncClient().get(f"/events/?channel={there}", headers={"Accept": accept})
        assert (response.status_code, looked) == (200, [{there}]), "who may read it would be seen here"
        if response.streaming:
            await aiter(response.streaming_content).aclose()

    async def test_and_in_the_same_time(self) -> None:
        """Both are asked for by turns: what else the machine does slows both."""
        samples = 2000
        user = await User.objects.acreate_user("ann")
        for _ in range(50):
            await asend_event(f"user.{user.pk}", None, "x" * 1000)
        client = AsyncClient()
        times: dict[str, list[float]] = {f"user.{user.pk}": [], "user.999999": []}
        for _ in range(samples):
            for channel, taken in times.items():
                begun = time.perf_counter()
                await client.get(f"/events/?channel={channel}")
                taken.append(time.perf_counter() - begun)
        there, absent = times.values()
        spread = statistics.stdev(sorted(there + absent)[:samples])  # of the faster half: the rest was interrupted
        difference = abs(statistics.median(there) - statistics.median(absent))
        print(f"{samples} of each: medians differ by {difference * 1e3:.3f} ms, sigma is {spread * 1e3:.3f} ms")  # noqa: T201
        assert difference < max(spread, 0.001)


@pytest.mark.parametrize("path", ["/events/?channel=public.a", "/events/?channel=user.1"])
@pytest.mark.parametrize("accept", ["text/event-stream", "application/json"])
async def test_a_session_that_no_database_can_look_for_is_nobodys(path: str, accept: str) -> None:
    """PostgreSQL refuses a NUL in any text: that would be an error 500. A cookie in quotes may spell one."""
    client = AsyncClient()
    client.cookies.load('sessionid="abcdefgh\\000ijkl"')
    response: Any = await client.get(path, headers={"Accept": accept})
    assert response.status_code == 403
