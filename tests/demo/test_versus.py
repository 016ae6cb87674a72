"""The page that compares the two, in a real browser."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.demo.test_demo import ROOT, Demo, Visit, _visit
from tests.demo.test_demo import browser as browser
from tests.demo.test_demo import demo as demo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, WebSocketRoute


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    with _visit(browser) as visit:
        yield visit
        # A server that starts anew in the middle of everything is the browser's to complain about.
        expected = ("WebSocket connection", "INCOMPLETE_CHUNKED", "ERR_CONNECTION")
        assert [one for one in visit.complaints if not any(word in one for word in expected)] == []


def opened(demo: Demo, visit: Visit) -> Page:
    page = visit.open(f"{demo.address}/versus/")
    connected(page)
    return page


def connected(page: Page) -> None:
    for side in ("source", "socket"):
        expect(page.locator(f"#{side}-state")).to_have_attribute("data-state", "live")


def numbers(page: Page, side: str) -> tuple[str, str]:
    return tuple(page.locator(f"#{side}-{what}").text_content() or "" for what in ("received", "missed"))  # type: ignore[return-value]


@pytest.mark.parametrize("button", ["drop", "restart"])
def test_what_each_one_missed(demo: Demo, visit: Visit, button: str) -> None:
    page = opened(demo, visit)
    page.click("#publish")
    for side in ("source", "socket"):
        expect(page.locator(f"#{side}-received")).to_have_text("5")
    page.click(f"#{button}")
    expect(page.locator("#source-received")).to_have_text("10")
    connected(page)
    page.click("#publish")
    expect(page.locator("#source-received")).to_have_text("15")
    expect(page.locator("#socket-received")).to_have_text("10")
    expect(page.locator("#socket-missed")).to_have_text("5")
    assert numbers(page, "source") == ("15", "0")
    missed = page.locator('#socket-chips [data-kind="missed"]').all_text_contents()
    assert missed == ["6", "7", "8", "9", "10"]


def test_what_could_not_be_published_was_not_missed(demo: Demo, browser: Browser) -> None:
    with _visit(browser) as visit:  # the browser complains of the answer, rightly
        page = opened(demo, visit)
        page.route("**/publish/", lambda route: route.fulfill(status=502), times=1)
        page.click("#publish")
        expect(page.locator("#failure")).to_have_text("Publishing failed: the server answered 502.")
        expect(page.locator("#published")).to_have_text("0")
        expect(page.locator(".side .chip")).to_have_count(0)
        expect(page.locator("#publish")).to_be_focused()
        page.click("#publish")
        for side in ("source", "socket"):
            expect(page.locator(f"#{side}-received")).to_have_text("5")
            assert numbers(page, side) == ("5", "0")
        expect(page.locator("#published")).to_have_text("5")
        expect(page.locator("#publish")).to_be_focused()
        expect(page.locator("#failure")).to_be_empty()


def test_the_lines_are_counted_honestly(demo: Demo, visit: Visit) -> None:
    page = opened(demo, visit)
    shown = page.locator("#socket pre code").text_content() or ""
    assert shown == (ROOT / "static/demo/socket.js").read_text()
    lines = [line for line in shown.splitlines() if line.strip() and not line.strip().startswith("//")]
    assert page.locator("#socket dd").nth(2).text_content() == str(len(lines))
    assert f"has {len(lines)} |" in (ROOT / "docs/sse-or-websocket.md").read_text()
    ours = page.locator("#source [data-source]").text_content() or ""
    assert page.locator("#source dd").nth(2).text_content() == str(len(ours.strip().splitlines())) == "3"


def test_a_chat_in_two_windows_that_survives_a_restart(demo: Demo, visit: Visit) -> None:
    ada, bob = opened(demo, visit), opened(demo, visit)
    ada.fill("#chat-name", "Ada")
    ada.locator("#chat-text").press_sequentially("Hel <b>lo")
    expect(bob.locator("#typing")).to_have_text("Ada is typing")
    ada.keyboard.press("Enter")
    for page in (ada, bob):
        expect(page.locator("#said li")).to_have_text([re.compile("Ada Hel <b>lo")])
    for page in (ada, bob):
        expect(page.locator("#chat")).to_have_attribute("data-state", "live")
    bob.click("#restart")
    for page in (ada, bob):
        expect(page.locator("#chat")).to_have_attribute("data-state", "away")
    for page in (ada, bob):
        expect(page.locator("#chat")).to_have_attribute("data-state", "live")
    bob.fill("#chat-text", "again")
    bob.keyboard.press("Enter")
    for page in (ada, bob):
        expect(page.locator("#said li")).to_have_text([re.compile("Ada Hel <b>lo"), re.compile("somebody again")])


class Server:
    """The chat's other end, played: its sockets, which this test closes."""

    def __init__(self, page: Page) -> None:
        self.sockets: list[WebSocketRoute] = []
        page.route_web_socket(re.compile("/versus/chat/"), self._accept)

    def _accept(self, socket: WebSocketRoute) -> None:
        socket.on_message(self._hear)
        self.sockets.append(socket)

    def _hear(self, text: str | bytes) -> None:
        if said := json.loads(text).get("text"):
            self.tell("said", {"name": "Ada", "text": said})

    def tell(self, type: str, data: object, id: int = 7) -> None:
        self.sockets[-1].send(json.dumps({"id": id, "type": type, "data": json.dumps(data)}))


def chat(demo: Demo, visit: Visit) -> tuple[Page, Server]:
    page = visit.context.new_page()
    server = Server(page)
    page.clock.install()
    page.goto(f"{demo.address}/versus/")
    expect(page.locator("#chat-state")).to_have_text("Connected")
    return page, server


def test_what_is_said_while_away_stays_in_its_field(demo: Demo, visit: Visit) -> None:
    page, server = chat(demo, visit)
    server.tell("said", {"name": "Ada", "text": "hello"})
    expect(page.locator("#said li")).to_have_text([re.compile("Ada hello")])
    calm = page.locator("#chat-state").evaluate("(line) => getComputedStyle(line).color")
    server.sockets[-1].close(code=4012)
    expect(page.locator("#chat-state")).to_have_text("Away. It comes back by itself.")
    expect(page.locator("#chat-state")).not_to_have_css("color", calm)
    page.fill("#chat-text", "important")
    page.keyboard.press("Enter")
    expect(page.locator("#chat-state")).to_contain_text("Not said")
    expect(page.locator("#chat-text")).to_have_value("important")
    page.clock.fast_forward(2000)
    expect(page.locator("#chat-state")).to_have_text("Connected")
    assert len(server.sockets) == 2
    assert "since=7" in server.sockets[-1].url
    page.locator("#chat-text").press("Enter")
    expect(page.locator("#chat-text")).to_have_value("")
    expect(page.locator("#said li")).to_have_text([re.compile("Ada hello"), re.compile("Ada important")])


def test_a_right_that_ended_ends_the_chat_unless_it_is_not_final(demo: Demo, visit: Visit) -> None:
    page, server = chat(demo, visit)
    server.tell("sse.close", {"reason": "password", "final": False})
    server.sockets[-1].close(code=4003)
    expect(page.locator("#chat")).to_have_attribute("data-state", "away")
    page.clock.fast_forward(2000)
    expect(page.locator("#chat")).to_have_attribute("data-state", "live")
    server.tell("sse.close", {"reason": "logout"})
    server.sockets[-1].close(code=4003)
    expect(page.locator("#chat-state")).to_contain_text("Ended")
    page.clock.fast_forward(200_000)
    expect(page.locator("#chat")).to_have_attribute("data-state", "away")
    assert len(server.sockets) == 2


def test_accepted_without_a_message_the_chat_waits_longer(demo: Demo, visit: Visit) -> None:
    page, server = chat(demo, visit)
    server.sockets[-1].close(code=4012)
    expect(page.locator("#chat")).to_have_attribute("data-state", "away")
    page.clock.fast_forward(29_000)
    page.wait_for_timeout(100)
    assert len(server.sockets) == 1
    page.clock.fast_forward(31_000)
    expect(page.locator("#chat")).to_have_attribute("data-state", "live")
    assert len(server.sockets) == 2


def test_the_chat_says_what_the_log_could_not_bring(demo: Demo, visit: Visit) -> None:
    page, server = chat(demo, visit)
    server.tell("sse.reset", {"reason": "expired", "id": 9}, id=9)
    expect(page.locator("#said li")).to_have_text([re.compile("missing")])
