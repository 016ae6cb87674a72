"""Pages of other sites: refused from the headers alone, unless their origin is named."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext
from django.urls import include, path

from django_sse.views import EventStreamView, event_stream

pytestmark = pytest.mark.usefixtures("committed")

GOOD = "https://app.example.org"
ADDRESS = "/events/?channel=public.a"


async def function_view(request: Any) -> Any:
    return await event_stream(request, ["public.a"])


urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("fixed/", EventStreamView.as_view(channels=["public.a"])),
    path("function/", function_view),
]


@pytest.fixture(autouse=True)
def _settings(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.DJANGO_SSE = {"ALLOWED_ORIGINS": [GOOD]}


async def ask(headers: dict[str, str], address: str = ADDRESS, method: str = "get") -> Any:
    response: Any = await getattr(AsyncClient(), method)(address, headers=headers)
    if response.streaming:
        await aiter(response.streaming_content).aclose()
    return response


REFUSED = [
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "https://sub.app.example.org"},
    {"Origin": "https://app.example.org.evil.example"},
    {"Origin": "https://evil.example/https://app.example.org"},
    {"Origin": "https://APP.example.org"},
    {"Origin": "https://app.example.org:444"},
    {"Origin": "http://app.example.org"},
    {"Origin": "https://app.example.org/"},
    {"Origin": f"{GOOD}, https://evil.example"},
    {"Origin": "*"},
    {"Origin": "http://testserver:81"},
    {"Origin": "https://testserver"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
    {"Sec-Fetch-Site": "something new"},
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
]
ALLOWED = [
    {},
    {"Origin": "http://testserver"},
    {"Sec-Fetch-Site": "same-origin"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": GOOD},
    {"Origin": GOOD, "Sec-Fetch-Site": "cross-site"},
]


@pytest.mark.parametrize("address", [ADDRESS, "/fixed/", "/function/"])
@pytest.mark.parametrize("headers", REFUSED, ids=str)
async def test_another_site_is_refused(headers: dict[str, str], address: str) -> None:
    response = await ask(headers, address)
    assert response.status_code == 403
    assert not [name for name in response.headers if name.startswith("Access-Control")]
    assert response["Vary"] == "Origin, Cookie"
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("headers", ALLOWED, ids=str)
async def test_this_site_and_the_named_one_are_served(headers: dict[str, str]) -> None:
    response = await ask(headers)
    assert response.status_code == 200
    assert response["Vary"] == "Origin, Cookie"
    named = {name: value for name, value in response.headers.items() if name.startswith("Access-Control")}
    expected = {"Access-Control-Allow-Origin": GOOD, "Access-Control-Allow-Credentials": "true"}
    assert named == (expected if headers.get("Origin") == GOOD else {})


async def test_a_refusal_can_be_read_by_the_named_site() -> None:
    response = await ask({"Origin": GOOD}, "/events/?channel=secret")
    assert (response.status_code, response["Access-Control-Allow-Origin"]) == (403, GOOD)
    response = await ask({"Origin": GOOD}, "/events/")
    assert (response.status_code, response["Access-Control-Allow-Origin"]) == (400, GOOD)


def test_a_refusal_costs_no_query(django_user_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    client.force_login(django_user_model.objects.create_user("ann"))
    with CaptureQueriesContext(connection) as queries:
        for number in range(100):
            assert client.get(f"{ADDRESS}&n={number}", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert len(queries) == 0
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/events/?channel=user.1").status_code in (200, 403)
    assert len(queries) > 0, "the counterpart: who is not refused is looked up"


class TestPreflight:
    PREFLIGHT = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "last-event-id"}

    async def test_of_the_named_site(self) -> None:
        response = await ask({"Origin": GOOD, **self.PREFLIGHT}, method="options")
        assert response.status_code == 204
        assert response["Access-Control-Allow-Origin"] == GOOD
        assert response["Access-Control-Allow-Credentials"] == "true"
        assert response["Access-Control-Allow-Methods"] == "GET"
        assert "last-event-id" in response["Access-Control-Allow-Headers"]
        assert response["Vary"] == "Origin, Cookie"

    async def test_of_another(self) -> None:
        response = await ask({"Origin": "https://evil.example", **self.PREFLIGHT}, method="options")
        assert response.status_code == 403
        assert not response.has_header("Access-Control-Allow-Methods")

    async def test_options_without_one_says_what_there_is(self) -> None:
        response = await ask({}, method="options")
        assert (response.status_code, response["Allow"]) == (200, "GET, HEAD, OPTIONS")


class TestBesideCorsHeaders:
    """django-cors-headers may be there for the rest of the project; it neither opens nor closes a stream."""

    @pytest.fixture(autouse=True)
    def _cors(self, settings: Any) -> None:
        settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "corsheaders"]
        settings.MIDDLEWARE = ["corsheaders.middleware.CorsMiddleware", *settings.MIDDLEWARE]
        settings.CORS_ALLOW_CREDENTIALS = True

    async def test_both_allow(self, settings: Any) -> None:
        settings.CORS_ALLOWED_ORIGINS = [GOOD]
        response = await ask({"Origin": GOOD})
        assert response.status_code == 200
        assert response["Access-Control-Allow-Origin"] == GOOD
        assert response["Access-Control-Allow-Credentials"] == "true"
        assert sorted(part.strip().lower() for part in response["Vary"].split(",")) == ["cookie", "origin"]

    async def test_what_it_allows_to_everybody_a_stream_does_not(self, settings: Any) -> None:
        settings.CORS_ALLOW_ALL_ORIGINS = True
        response = await ask({"Origin": "https://evil.example"})
        assert (response.status_code, response.content) == (403, b"You may not read these channels.\n")

    async def test_what_it_does_not_know_is_allowed_by_us(self, settings: Any) -> None:
        settings.CORS_ALLOWED_ORIGINS = ["https://else.example.org"]
        response = await ask({"Origin": GOOD})
        assert (response.status_code, response["Access-Control-Allow-Origin"]) == (200, GOOD)

    async def test_a_preflight(self, settings: Any) -> None:
        settings.CORS_ALLOWED_ORIGINS = [GOOD]
        response = await ask({"Origin": GOOD, "Access-Control-Request-Method": "GET"}, method="options")
        assert response.status_code in (200, 204)
        assert response["Access-Control-Allow-Origin"] == GOOD


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "trace"])
async def test_nothing_can_be_changed_by_a_request(method: str) -> None:
    """No address of ours publishes, so there is nothing to forge."""
    for headers in ({}, {"Origin": "https://evil.example"}):
        assert (await ask(headers, method=method)).status_code == 405
