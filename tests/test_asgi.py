"""The application around Django: what passes through, what is detached, and who ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.signals import request_finished
from django.http import HttpResponse

from django_sse import asend_event, asgi, drain
from django_sse.asgi import DetachingApplication, get_asgi_application
from django_sse.detach import current_slot
from django_sse.hub import Hub
from django_sse.testing import Parser
from tests.security.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.usefixtures("committed")


def scope(path: str = "/events/", query: str = "channel=public.a", method: str = "GET") -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(b"host", b"testserver")],
    }


async def opened(application: Any = None, **where: str) -> ApplicationCommunicator:
    talk = ApplicationCommunicator(application or get_asgi_application(), scope(**where))
    await talk.send_input({"type": "http.request"})
    return talk


async def ended(talk: ApplicationCommunicator) -> None:
    """Wait until the application ends by itself: asgiref's own ``wait`` cancels one that does not, and says nothing."""
    done, _ = await asyncio.wait({talk.future}, timeout=10)
    assert done
    talk.future.result()


async def closed(talk: ApplicationCommunicator) -> None:
    await talk.send_input({"type": "http.disconnect"})
    await ended(talk)


async def body(talk: ApplicationCommunicator, enough: Callable[[list[Any]], bool]) -> list[Any]:
    parser, events = Parser(), []
    while not enough(events):
        message = await talk.receive_output(10)
        events += parser.feed(message["body"])
    return events


async def test_the_request_is_over_before_the_first_byte() -> None:
    finished: list[bool] = []

    def note(**kwargs: Any) -> None:
        finished.append(True)

    request_finished.connect(note)
    try:
        talk = await opened()
        start = await talk.receive_output(10)
        assert start["status"] == 200
        first = await talk.receive_output(10)
        assert first["body"].startswith(b"retry: ")
        assert finished == [True]
        await asend_event("public.a", "status", 7)
        (event,) = await body(talk, lambda events: len(events) == 1)
        assert (event.type, event.json()) == ("status", 7)
        await closed(talk)
        assert Hub.current()._count == 0
    finally:
        request_finished.disconnect(note)


async def test_the_token_is_not_shown() -> None:
    talk = await opened()
    start = await talk.receive_output(10)
    names = {bytes(name).lower() for name, _ in start["headers"]}
    assert b"x-django-sse-detached" not in names
    assert b"content-type" in names
    await closed(talk)


async def test_other_responses_pass_through() -> None:
    for where, status in [({"query": "channel=secret"}, 403), ({"query": ""}, 400), ({"method": "POST"}, 405)]:
        talk = await opened(**where)
        assert (await talk.receive_output(10))["status"] == status
        last = await talk.receive_output(10)
        assert not last.get("more_body")
        await ended(talk)


class Replacing:
    """A middleware that answers in the view's place."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> HttpResponse:
        self.get_response(request)
        return HttpResponse("replaced")


async def test_a_response_that_middleware_replaced_is_that_one(settings: Any) -> None:
    settings.MIDDLEWARE = [f"{__name__}.Replacing"]
    talk = await opened()
    assert (await talk.receive_output(10))["status"] == 200
    assert (await talk.receive_output(10))["body"] == b"replaced"
    await ended(talk)
    assert Hub.current()._count == 0


async def test_a_start_that_somebody_hides_is_served_plain() -> None:
    django = get_asgi_application()._application

    async def hiding(scope: Any, receive: Any, send: Any) -> None:
        async def without_token(message: Any) -> None:
            if "headers" in message:
                headers = [(n, v) for n, v in message["headers"] if b"detached" not in bytes(n).lower()]
                message = {**message, "headers": headers}
            await send(message)

        await django(scope, receive, without_token)

    talk = await opened(DetachingApplication(hiding))
    assert (await talk.receive_output(10))["status"] == 200
    await asend_event("public.a", None, "plain")
    (event,) = await body(talk, lambda events: len(events) == 1)
    assert event.json() == "plain"
    await closed(talk)


async def test_a_token_of_somebody_else_detaches_nothing() -> None:
    from django_sse.detach import Slot

    slot = Slot()
    headers = [(b"X-Django-SSE-Detached", b"guessed"), (b"A", b"1")]
    slot.take({"headers": headers})
    assert not slot.detached
    slot.stream = object()  # type: ignore[assignment]
    assert slot.take({"headers": headers})["headers"] == [(b"A", b"1")]
    assert not slot.detached


async def test_a_server_that_says_so_by_an_error_is_a_client_that_left() -> None:
    async def receive() -> dict[str, Any]:
        if not asked:
            asked.append(True)
            return {"type": "http.request"}
        return await asyncio.get_running_loop().create_future()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the client left")

    asked: list[bool] = []
    async with asyncio.timeout(10):
        await get_asgi_application()(scope(), receive, send)
    assert Hub.current()._count == 0


async def test_nothing_is_begun_for_a_client_that_has_left() -> None:
    begun: list[bool] = []

    class Dear:
        writer = None

        async def __aiter__(self) -> Any:
            begun.append(True)
            yield b"dear"

        def end(self) -> None:
            pass

    async def django(scope: Any, receive: Any, send: Any) -> None:
        _, headers = current_slot.get().offer(Dear(), None)  # type: ignore[union-attr, arg-type]
        encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": 200, "headers": encoded})
        assert (await receive())["type"] == "http.disconnect"

    talk = ApplicationCommunicator(DetachingApplication(django), scope())
    await talk.receive_output(10)
    await closed(talk)
    assert begun == []


async def test_what_is_not_http_goes_to_django() -> None:
    seen: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])
        assert "django_sse" not in scope

    await DetachingApplication(application)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
    assert seen == ["lifespan"]


class TestDraining:
    @pytest.fixture(autouse=True)
    def _handlers(self) -> Iterator[None]:
        before = {number: signal.getsignal(number) for number in drain.SIGNALS}
        yield
        for number, handler in before.items():
            signal.signal(number, handler)
        drain._before.clear()
        drain._until = 0.0

    def listen(self) -> None:
        """As the first stream does, in a loop that has ended when the signal comes."""
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        drain.listen()
        drain.listen()

    def test_the_servers_own_handler_is_called_after(self) -> None:
        called: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))
        self.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        assert called == [signal.SIGTERM]

    def test_a_loop_that_was_closed_over_its_hub_does_not_hold_up_the_servers_handler(self) -> None:
        called: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, frame: called.append(number))
        self.listen()
        loop = asyncio.new_event_loop()
        loop.close()
        Hub._hubs[loop] = object.__new__(Hub)
        os.kill(os.getpid(), signal.SIGTERM)
        assert called == [signal.SIGTERM]
        del Hub._hubs[loop]

    def test_while_the_loop_runs_a_moment_after_and_a_second_signal_at_once(self) -> None:
        called: list[str] = []
        signal.signal(signal.SIGTERM, lambda number, frame: called.append("own"))

        async def main() -> None:
            drain.listen()
            os.kill(os.getpid(), signal.SIGTERM)
            called.append("streams are ending")
            await until(lambda: "own" in called)
            os.kill(os.getpid(), signal.SIGTERM)
            called.append("end")

        asyncio.run(main())
        assert called == ["streams are ending", "own", "own", "end"]

    def test_a_signal_that_was_ignored_stays_so(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.listen()
        os.kill(os.getpid(), signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is drain._drain

    def test_the_default_is_done_after(self, monkeypatch: pytest.MonkeyPatch) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.listen()
        sent: list[int] = []
        monkeypatch.setattr(drain.os, "kill", lambda pid, number: sent.append(number))
        drain._drain(signal.SIGTERM, None)
        assert sent == [signal.SIGTERM]
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    async def test_a_latecomer_is_told_when_to_come_back_and_ends(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(drain, "_until", float("inf"))
        talk = await opened()
        await talk.receive_output(10)
        first = await talk.receive_output(10)
        assert first["body"].startswith(b"retry: ")
        assert not (await talk.receive_output(10))["more_body"]
        await ended(talk)

    def test_it_may_be_switched_off_and_is_the_main_threads(self, settings: Any) -> None:
        thread = threading.Thread(target=self.listen)
        thread.start()
        thread.join()
        settings.DJANGO_SSE = {"HANDLE_SIGNALS": False}
        self.listen()
        assert all(signal.getsignal(number) is not drain._drain for number in drain.SIGNALS)

    async def test_every_stream_ends_cleanly(self) -> None:
        talks = [await opened() for _ in range(3)]
        for talk in talks:
            await talk.receive_output(10)
            assert (await talk.receive_output(10))["more_body"]
        Hub.drain_all()
        for talk in talks:
            last = await talk.receive_output(10)
            assert (last["body"], last["more_body"]) == (b"", False)
            await ended(talk)


class Slow:
    """Django, as far as opening a stream goes: it notes how many are being opened, and lets the test go on."""

    def __init__(self) -> None:
        self.opening = self.most = 0
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.opening += 1
        self.most = max(self.most, self.opening)
        await self.go.wait()
        self.opening -= 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize(("accept", "most"), [(b"text/event-stream", 2), (b"text/html", 7)])
async def test_streams_are_opened_by_turns_and_other_requests_are_not(settings: Any, accept: bytes, most: int) -> None:
    settings.DJANGO_SSE = {"MAX_OPENING": 2}
    django = Slow()
    application = DetachingApplication(django)
    where = {**scope(), "headers": [(b"accept", accept)]}
    talks = [ApplicationCommunicator(application, where) for _ in range(7)]
    for talk in talks:
        await talk.send_input({"type": "http.request"})
    for _ in range(100):  # turns of the loop: more than it takes all of them to come in, if they may
        await asyncio.sleep(0)
    django.go.set()
    for talk in talks:
        assert (await talk.receive_output(10))["status"] == 200
        await ended(talk)
    assert django.most == most


async def test_a_stream_that_is_served_by_django_gives_its_turn_away(settings: Any) -> None:
    settings.DJANGO_SSE = {"MAX_OPENING": 1}
    staying = asyncio.Event()

    async def stays(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await staying.wait()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    application = DetachingApplication(stays)
    talks = [
        ApplicationCommunicator(application, {**scope(), "headers": [(b"accept", b"text/event-stream")]})
        for _ in range(3)
    ]
    for talk in talks:
        await talk.send_input({"type": "http.request"})
        assert (await talk.receive_output(10))["status"] == 200
    staying.set()
    for talk in talks:
        await ended(talk)


STREAM = [(b"accept", b"text/event-stream")]


async def _answers(application: Any, *messages: dict[str, Any], **where: str) -> None:
    """Open a stream as ``application`` would be asked for one, and fail if it has to wait."""
    talk = ApplicationCommunicator(application, {**scope(**where), "headers": STREAM})
    for message in messages or ({"type": "http.request"},):
        await talk.send_input(message)
    assert (await talk.receive_output(10))["status"] == 200
    await ended(talk)


async def _django(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize("begun", [[], [{"type": "http.request", "body": b"x", "more_body": True}]])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_who_has_not_done_asking_keeps_nobody_waiting(settings: Any, method: str, begun: list[Any]) -> None:
    settings.DJANGO_SSE = {"MAX_OPENING": 1}
    application = DetachingApplication(_django)
    halves = [ApplicationCommunicator(application, {**scope(method=method), "headers": STREAM}) for _ in range(3)]
    for half in halves:
        for message in begun:
            await half.send_input(message)
        await half.receive_nothing(0.01)
    await _answers(application)
    for half in halves:  # and nothing of what they said was lost
        await half.send_input({"type": "http.request", "body": b"y", "more_body": False})
        assert (await half.receive_output(10))["status"] == 200
        await ended(half)


async def test_who_leaves_before_having_asked_is_no_error(settings: Any) -> None:
    settings.DJANGO_SSE = {"MAX_OPENING": 1}
    await _answers(DetachingApplication(_django), {"type": "http.disconnect"})

    async def broken() -> Any:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await DetachingApplication(_django)({**scope(), "headers": STREAM}, broken, broken)


@pytest.mark.parametrize(("method", "patience"), [("GET", 0.05), ("POST", 60)])
async def test_a_turn_that_lasts_lets_the_next_one_in(
    settings: Any, monkeypatch: pytest.MonkeyPatch, method: str, patience: float
) -> None:
    """A view that thinks for a minute; and one that changes something is no stream being opened at all."""
    settings.DJANGO_SSE = {"MAX_OPENING": 1}
    monkeypatch.setattr(asgi, "PATIENCE", patience)
    thinking, done = asyncio.Event(), asyncio.Event()

    async def django(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow/":
            thinking.set()
            await done.wait()
        await _django(scope, receive, send)

    application = DetachingApplication(django)
    slow = asyncio.create_task(_answers(application, path="/slow/", method=method))
    await asyncio.wait_for(thinking.wait(), 10)
    await _answers(application)
    done.set()
    await slow
    await _answers(application)  # a turn that ended by time does not end twice
    door: Any = asgi._Turn._doors[asyncio.get_running_loop()]
    assert door._value == 1
