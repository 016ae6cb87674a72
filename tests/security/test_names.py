"""Channels that look alike are different channels or none, in the address, in the rules and in every database."""

from __future__ import annotations

import unicodedata
from typing import Any
from urllib.parse import quote

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.test import AsyncClient, Client, RequestFactory
from django.urls import include, path

from django_sse import log, retention, send_event
from django_sse.access import Rules, authenticated, own, permission, staff
from django_sse.channels import check_channel
from django_sse.models import Event
from django_sse.testing import Parser, listen
from django_sse.views import EventStreamView

pytestmark = pytest.mark.usefixtures("committed")


class Left(EventStreamView):
    """Leaves the choice to the client."""

    async def get_channels(self, request: Any) -> None:
        return None


urlpatterns = [path("events/", include("django_sse.urls")), path("left/", Left.as_view())]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


ALIKE = {
    "public.news": ["public.News", "PUBLIC.news", "public.news.", "public.news~", "public.new", "public.newss"],
    "user.7": ["user.07", "user.7.", "user.70", "User.7", "user.7~", "user.-7", "user.7.0", "user.7e0"],
    "order.a-b": ["order.a.b", "order.a_b", "order.ab", "order.a--b", "order.A-b"],
}
NEVER = [
    "user.\u0667",  # Arabic-Indic 7
    "user.\uff17",  # full width 7
    "user.7 ",
    " user.7",
    "user.7\t",
    "user.7\n",
    "user.7\x00",
    "user.7\u200b",
    "user.7\u00ad",
    "\u202euser.7",
    "user.7\ufeff",
    "u\u0455er.7",  # Cyrillic s
    "user\u30fb7",
    "user\uff0e7",
    unicodedata.normalize("NFD", "usér.7"),
    unicodedata.normalize("NFC", "usér.7"),
    "\u212auser.7",  # the Kelvin sign, which lower() makes a k
    "u\u017fer.7",  # the long s, which upper() makes an S
    "user.7%00",
    "user%2E7",
    "user.7/../8",
    "user.7,user.8",
    "user.7;user.8",
    "user.7&",
    "user.*",
    "user.%",
    "user._7'--",
    "!control",
    "*",
    "",
]


@pytest.mark.parametrize(("channel", "others"), ALIKE.items())
def test_the_database_compares_exactly(channel: str, others: list[str]) -> None:
    for other in others:
        send_event(other, None, other)
    send_event(channel, None, "mine")
    head = log.get_head()
    assert [event.channel for event in log.after(0, [channel], 100)] == [channel]
    assert log.cursor_before_last([channel], 100) == head - 1
    send_event(channel, None, 1, key="key")
    for other in others:
        send_event(other, None, 1, key="key")
    send_event(channel, None, 1, key="KEY")
    assert log.get_head() == head + len(others) + 2, "a key was taken for another channel's, or for another"
    retention.purge(channel)
    assert not Event.objects.filter(channel=channel).exists()
    assert Event.objects.count() == 2 * len(others)


@pytest.mark.parametrize(("channel", "others"), ALIKE.items())
async def test_a_stream_gets_its_own(settings: Any, channel: str, others: list[str]) -> None:
    settings.DJANGO_SSE = {"AUTHORIZE": lambda request, channel: True, "RING_SIZE": 3}
    send = sync_to_async(send_event)
    for store in (True, False):
        async with listen(AsyncClient(), f"/events/?channel={quote(channel)}&since=0") as events:
            for other in others:
                await send(other, None, other, store=store)
            await send(channel, None, "mine", store=store)
            assert (await events.next()).json() == "mine"
    polled = await sync_to_async(Client().get)(f"/events/?channel={quote(channel)}&since=0")
    assert [event.data for event in Parser().feed(polled.content)] == ['"mine"']


@pytest.mark.parametrize("name", NEVER, ids=ascii)
async def test_what_is_no_name_is_refused_as_such(name: str) -> None:
    for encoded in (quote(name), quote(quote(name)) if name else ""):
        response = await AsyncClient().get(f"/events/?channel={encoded}")
        assert response.status_code in (400, 403), encoded
        if name != "user%2E7":
            assert response.status_code == 400, encoded
    with pytest.raises(ValueError, match="not a channel name"):
        check_channel(name)


@pytest.mark.parametrize("address", ["/events/", "/left/"])
@pytest.mark.parametrize(
    "names",
    [["a", "b "], [f"a{number}" for number in range(21)], ["a"] * 21, ["a"] * 900],
    ids=["a bad one", "too many", "one too often", "as many as Django takes"],
)
async def test_nobody_is_asked_about_names_that_make_no_sense(settings: Any, address: str, names: list[str]) -> None:
    asked: list[str] = []
    settings.DJANGO_SSE = {"AUTHORIZE": lambda request, channel: asked.append(channel) or True}
    response = await AsyncClient().get(address + "?" + "&".join(f"channel={quote(name)}" for name in names))
    assert (response.status_code, asked) == (400, [])


@pytest.mark.parametrize("other", [name for names in ALIKE.values() for name in names])
async def test_nobody_gets_in_by_likeness(other: str) -> None:
    client = AsyncClient()
    await client.aforce_login(await User.objects.acreate_user("ann", pk=7))
    response: Any = await client.get(f"/events/?channel={quote(other)}")
    public = other.startswith("public.")
    assert response.status_code == (200 if public else 403)
    if response.streaming:
        await aiter(response.streaming_content).aclose()


def test_two_parts_do_not_make_one_name() -> None:
    """``a.b`` + ``c`` is ``a`` + ``b.c``: a placeholder holds no dot, so that only one of the two fits a pattern."""
    one = Rules({"room.<name>": True})._rules[0][0]
    assert one.fullmatch("room.a")
    assert not one.fullmatch("room.a.b")
    assert not one.fullmatch("room.")


class TestRules:
    def request(self, user: Any = None) -> Any:
        request: Any = RequestFactory().get("/")
        request.user = user or AnonymousUser()
        return request

    @pytest.mark.parametrize(
        ("pattern", "channel", "expected"),
        [
            ("public.*", "public.a", {}),
            ("public.*", "public.", {}),
            ("public.*", "publicity", None),
            ("public.*", "xpublic.a", None),
            ("*", "anything.at-all", {}),
            ("order.<int:pk>", "order.7", {"pk": 7}),
            ("order.<int:pk>", "order.0", {"pk": 0}),
            ("order.<int:pk>", "order.07", None),
            ("order.<int:pk>", "order.-7", None),
            ("order.<int:pk>", "order.7.0", None),
            ("order.<int:pk>", "order." + "9" * 20, None),
            ("order.<pk>", "order.07", {"pk": "07"}),
            ("order.<pk>", "order.a.b", None),
            ("a.<x>.b.<int:y>", "a.1.b.2", {"x": "1", "y": 2}),
            ("a.b", "a-b", None),
            ("a.b", "a.b", {}),
            ("file.<uuid:pk>", "file.00000000-0000-0000-0000-00000000000A", None),
            ("file.<uuid:pk>", "file.00000000000000000000000000000000", None),
        ],
    )
    async def test_a_pattern_fits_exactly(self, pattern: str, channel: str, expected: Any) -> None:
        seen: list[Any] = []

        def rule(request: Any, channel: str, **values: Any) -> bool:
            seen.append(values)
            return True

        assert await Rules({pattern: rule})(self.request(), channel) is (expected is not None)
        assert seen == ([] if expected is None else [expected])

    async def test_the_first_that_fits_decides(self) -> None:
        rules = Rules({"a.secret": False, "a.*": True, "a.b": False})
        assert [await rules(self.request(), name) for name in ("a.secret", "a.b", "b")] == [False, True, False]

    @pytest.mark.parametrize("answer", [None, 1, "yes", [True], object()])
    async def test_nothing_but_true_and_rows_allow(self, answer: Any) -> None:
        async def asynchronous(request: Any, channel: str) -> Any:
            return answer

        rules = Rules({"a": lambda request, channel: answer, "b": asynchronous})
        assert not await rules(self.request(), "a")
        assert not await rules(self.request(), "b")

    async def test_a_queryset_allows_if_it_has_a_row(self) -> None:
        async def asynchronous(request: Any, channel: str, pk: int) -> Any:
            return User.objects.filter(pk=pk)

        rules = Rules(
            {"a.<int:pk>": lambda request, channel, pk: User.objects.filter(pk=pk), "b.<int:pk>": asynchronous}
        )
        user = await User.objects.acreate_user("ann")
        for letter in "ab":
            assert await rules(self.request(), f"{letter}.{user.pk}") is True
            assert await rules(self.request(), f"{letter}.{user.pk + 1}") is False

    async def test_the_ready_made_ones(self) -> None:
        rules = Rules(
            {"user.<pk>": own, "in.*": authenticated, "staff.*": staff, "report.*": permission("shop.view_order")}
        )
        nobody, ann = self.request(), self.request(await User.objects.acreate_user("ann"))
        boss = self.request(await User.objects.acreate_superuser("boss"))
        gone = self.request(await User.objects.acreate_superuser("gone", is_active=False))
        table = {
            f"user.{ann.user.pk}": [False, True, False, False],
            "in.a": [False, True, True, True],
            "staff.a": [False, False, True, False],
            "report.a": [False, False, True, False],
        }
        for channel, expected in table.items():
            assert [await rules(one, channel) for one in (nobody, ann, boss, gone)] == expected, channel

    @pytest.mark.parametrize("pattern", ["a b", "a.<float:x>", "*.a", "a.**", "a/<x>", "é", "a.<x", "!control"])
    def test_what_is_no_pattern_is_an_error(self, pattern: str) -> None:
        with pytest.raises(ImproperlyConfigured, match=r"pattern|converter"):
            Rules({pattern: True})
