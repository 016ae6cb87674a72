"""What a service that collects errors is sent: Sentry's own client with its defaults, which takes local variables.

Not collected by itself: ``test_error_reports`` runs it in a process of its own.
"""

from __future__ import annotations

import json
import logging
import traceback
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import sentry_sdk
from django.contrib.auth import get_user_model
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import AsyncClient, AsyncRequestFactory
from django.urls import include, path
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.transport import Transport

from django_sse import asend_event, publish
from django_sse.responses import EventStreamResponse
from django_sse.testing import Parser, listen
from django_sse.tickets import asign_ticket
from django_sse.tokens import stream_tokens
from django_sse.unspoken import Secret, Unspoken
from django_sse.upstream import UpstreamError, openai_tokens
from django_sse.views import EventStreamView, event_stream
from tests.upstream import upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("committed")

CHANNEL = "private.ann-example.org"
PAYLOAD = "-".join(["payload", "of", "ann"])  # so that no line of this file, which a report quotes, is a hit
KEY = "-".join(["sk", "very", "secret", "0123456789"])
OURS = "django_sse"


class Failing(EventStreamView):
    """Fails as it opens."""

    def get_channels(self, request: Any) -> Any:
        raise RuntimeError("get_channels")


async def failing(request: Any) -> Any:
    def allowed(request: Any) -> bool:
        raise RuntimeError("allowed")

    return await event_stream(request, [CHANNEL], allowed=allowed)


urlpatterns = [
    path("events/", include("django_sse.urls")),
    path("failing/", Failing.as_view()),
    path("function/", failing),
]


class Reports:
    """What has been sent so far."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    @property
    def text(self) -> str:
        """All of it, but for the lines of source that go with each frame, and for this file's own frames."""
        return json.dumps([_without_tests(event) for event in self.events])

    @property
    def variables(self) -> str:
        """The local variables of our own frames."""
        frames = [frame for event in self.events for frame in _frames(event)]
        return json.dumps([frame.get("vars") for frame in frames if _is_of(frame, OURS)])


def _is_of(frame: dict[str, Any], package: str) -> bool:
    return str(frame.get("module")).split(".")[0] == package


def _frames(event: dict[str, Any]) -> list[dict[str, Any]]:
    return [frame for value in event["exception"]["values"] for frame in value["stacktrace"]["frames"]]


def _without_tests(event: dict[str, Any]) -> dict[str, Any]:
    for frame in _frames(event):
        for name in ("pre_context", "context_line", "post_context"):
            frame.pop(name, None)
        if _is_of(frame, "tests"):
            frame.pop("vars", None)
    return event


@contextmanager
def reporting(**options: Any) -> Iterator[Reports]:
    reports = Reports()

    class Kept(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            reports.events += [item.payload.json for item in envelope.items if item.type == "event"]

    sentry_sdk.init(
        dsn="https://nobody@127.0.0.1/1",
        transport=Kept,
        integrations=[DjangoIntegration()],
        auto_enabling_integrations=False,  # each would patch another package, for the rest of this run
        **options,
    )
    try:
        yield reports
    finally:
        sentry_sdk.get_client().close()
        sentry_sdk.init()


@pytest.fixture
def reports(settings: Any) -> Iterator[Reports]:
    settings.ROOT_URLCONF = __name__
    with reporting() as reports:
        yield reports


class Ann:
    """Somebody who is logged in and holds a ticket."""

    def __init__(self) -> None:
        self.client = AsyncClient(raise_request_exception=False)
        self.key = self.ticket = ""

    @classmethod
    async def arrives(cls) -> Ann:
        ann = cls()
        user = await User.objects.acreate_user("ann")
        await ann.client.aforce_login(user)
        ann.key = ann.client.cookies["sessionid"].value
        request: Any = AsyncRequestFactory().get("/")
        request.user = user
        ann.ticket = await asign_ticket(request, [CHANNEL])
        return ann

    def is_named_in(self, text: str) -> bool:
        """Tell whether a secret of theirs is, or the beginning of one."""
        return any(secret[:12] in text for secret in (self.key, self.ticket))


def _no(request: Any, channel: str) -> bool:
    raise KeyError("what it says")


async def test_an_authoriser_that_fails(reports: Reports, settings: Any) -> None:
    settings.DJANGO_SSE = {"AUTHORIZE": _no}
    ann = await Ann.arrives()
    address = f"/events/?channel={CHANNEL}"
    assert (await ann.client.get(address, headers={"Authorization": f"Ticket {ann.ticket}"})).status_code == 403
    (event,) = reports.events
    assert event["exception"]["values"][0]["value"] == "KeyError"
    assert [frame["function"] for frame in _frames(event)][-1] == "_no", "it says where"
    assert reports.variables == "[]"
    assert not ann.is_named_in(reports.text)


@pytest.mark.parametrize("address", ["/failing/", "/function/"])
async def test_a_view_that_fails(reports: Reports, address: str) -> None:
    """That is Django's to report, with its frames and ours."""
    ann = await Ann.arrives()
    assert (await ann.client.get(address, headers={"Authorization": f"Ticket {ann.ticket}"})).status_code == 500
    assert len(reports.events) == 1
    assert reports.variables != "[]"
    assert not ann.is_named_in(reports.text)
    assert PAYLOAD not in reports.text


async def test_what_fails_when_it_is_asked_again(reports: Reports, settings: Any, monkeypatch: Any) -> None:
    """Sessions are read for many streams at once: a failure of one is to show the key of none."""
    asked: list[str] = []

    def once(request: Any, channel: str) -> bool:
        asked.append(channel)
        return len(asked) == 1 or _no(request, channel)

    settings.DJANGO_SSE = {"AUTHORIZE": once, "RECHECK": 0.1, "POLL_INTERVAL": 0.1}
    ann = await Ann.arrives()
    async with listen(ann.client, f"/events/?channel={CHANNEL}") as events:
        assert (await events.next()).type == "sse.close"
    settings.DJANGO_SSE = {"AUTHORIZE": lambda request, channel: True, "RECHECK": 0.1, "POLL_INTERVAL": 0.1}
    async with listen(ann.client, f"/events/?channel={CHANNEL}") as events:
        monkeypatch.setattr(get_user_model(), "get_session_auth_hash", lambda self: _no(None, ""))
        assert (await events.next()).type == "sse.close"
    assert [event["exception"]["values"][0]["value"] for event in reports.events] == ["KeyError"] * 2
    assert reports.variables == "[]"
    assert not ann.is_named_in(reports.text)


async def test_a_database_that_is_away(reports: Reports, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that cannot be opened is a warning; positions that cannot be given are an error, and reported."""
    settings.DJANGO_SSE = {"AUTHORIZE": _away}
    ann = await Ann.arrives()
    response = await ann.client.get(f"/events/?channel={CHANNEL}&ticket={ann.ticket}")
    assert response.status_code == 200
    assert reports.events == []
    monkeypatch.setattr(publish, "number", lambda **asked: None)
    monkeypatch.setattr(publish, "rounds", _away)
    await asend_event(CHANNEL, None, PAYLOAD)
    assert len(reports.events) == 1
    assert not ann.is_named_in(reports.text)
    assert PAYLOAD not in reports.text


def _away(*args: Any) -> Any:
    raise OperationalError("away")


async def _is_refused(event_type: str) -> None:
    try:
        await asend_event(CHANNEL, event_type, PAYLOAD)
    except ValueError:
        sentry_sdk.capture_exception()


async def test_what_cannot_be_sent(reports: Reports) -> None:
    """The error does not quote it; the variables of the functions that were given it are it."""
    await _is_refused("open")
    (event,) = reports.events
    assert PAYLOAD not in event["exception"]["values"][-1]["value"]
    assert PAYLOAD in reports.variables


async def test_without_local_variables_there_is_nothing(settings: Any) -> None:
    """As the documentation says for whoever minds."""
    settings.ROOT_URLCONF = __name__
    with reporting(include_local_variables=False) as reports:
        ann = await Ann.arrives()
        await ann.client.get("/failing/", headers={"Authorization": f"Ticket {ann.ticket}"})
        await _is_refused("open")
    assert len(reports.events) == 2
    assert not ann.is_named_in(reports.text)
    assert PAYLOAD not in reports.text


ODD = [
    {"pieces": [f"data: {PAYLOAD}\n\n".encode()]},
    {"pieces": [f'data: {{"error": "{PAYLOAD} {KEY}"}}\n\n'.encode()]},
    {"status": 500, "pieces": [f"{PAYLOAD} {KEY}".encode()]},
    {"pieces": [b": \n\n"], "complete": False},
]


@pytest.mark.parametrize("answer", ODD)
async def test_a_service_that_answers_nonsense(reports: Reports, answer: dict[str, Any]) -> None:
    """The log and the report have the error's words; the page has none, and nobody has the key."""
    with upstream() as service:
        vars(service).update(answer)
        source = openai_tokens([], base_url=service.url, model="m", api_key=KEY)
        response = EventStreamResponse(source)
        async with aclosing(aiter(response)) as pieces:
            body = b"".join([piece async for piece in pieces])
        assert [event.data for event in Parser().feed(body)] == ['{"reason":"failed"}'] * 2
        assert PAYLOAD.encode() not in body
        (event,) = reports.events
        assert any(value["type"] == "UpstreamError" for value in event["exception"]["values"])
        assert KEY[:8] not in reports.text


@pytest.mark.parametrize("answer", ODD)
async def test_the_key_is_in_no_variable_of_another_name(answer: dict[str, Any]) -> None:
    """``api_key`` is known to such services as a secret; of a frame with many variables they show only some."""
    with upstream() as service:
        vars(service).update(answer)
        with pytest.raises(UpstreamError) as raised:
            await anext(openai_tokens([], base_url=service.url, model="m", api_key=KEY))
    frames = [frame for frame, _ in traceback.walk_tb(raised.tb) if str(frame.f_globals["__name__"]).startswith(OURS)]
    assert frames
    assert {name for frame in frames for name, value in frame.f_locals.items() if KEY[:8] in repr(value)} == {"api_key"}


@pytest.mark.parametrize("answer", ODD)
async def test_nor_has_the_log_of_a_generated_text(answer: dict[str, Any]) -> None:
    from django_sse.models import Event

    with upstream() as service:
        vars(service).update(answer)
        with pytest.raises(UpstreamError):
            await stream_tokens(CHANNEL, openai_tokens([], base_url=service.url, model="m", api_key=KEY))
    rows = [event.data async for event in Event.objects.all()]
    assert len(rows) == 1
    assert json.loads(rows[0])["reason"] == "failed"
    assert PAYLOAD not in rows[0]


def test_a_secret_is_the_text_that_it_hides() -> None:
    secret = Secret.of("text")
    assert secret == "text"
    assert f"{secret!r} {[secret]}" == "<Secret> [<Secret>]"
    assert Secret.of(None) is None


def test_an_error_of_ours_alone_still_says_where(caplog: pytest.LogCaptureFixture) -> None:
    from django_sse.channels import check_channel

    try:
        check_channel("")
    except ValueError as error:
        logging.getLogger("django_sse").error("It failed", exc_info=Unspoken(error))
    assert "check_channel" in caplog.text
    assert caplog.text.endswith("Unspoken: InvalidChannel\n")
