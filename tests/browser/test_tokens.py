"""The lines of docs/tokens.md, as they are printed there, in Chromium."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from playwright.sync_api import expect

if TYPE_CHECKING:
    from tests.browser.conftest import Tab
    from tests.browser.proxy import Proxy
    from tests.browser.server import Server

PAGE = Path(__file__).parents[2] / "docs/tokens.md"
REQUEST, LOG = re.findall(r"^```html\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)


def address(tab: Tab, code: str, query: str = "") -> str:
    body = urlsafe_b64encode(f'<p id="output"></p>{code}'.encode()).decode()
    return f"{tab.origin}/recipe/{body}/{query}"


def presented(server: Server, question: str) -> list[Any]:
    return server.get("/control/answered/", {"q": question})["presented"]


def test_a_text_for_one_request_is_not_begun_again(server: Server, tab: Tab) -> None:
    question = uuid4().hex
    tab.page.goto(address(tab, REQUEST.replace("hello", question)))
    expect(tab.page.locator("#output")).to_have_text("one two")
    tab.until("wire.sources[0].readyState === EventSource.CLOSED")
    assert presented(server, question) == [None]


def test_a_cut_connection_does_not_begin_it_again(server: Server, tab: Tab, proxy: Proxy) -> None:
    question = f"cut{uuid4().hex}"
    tab.page.goto(address(tab, REQUEST.replace("hello", question)))
    expect(tab.page.locator("#output")).to_have_text("one")
    proxy.cut()
    tab.until("wire.sources[0].readyState === EventSource.CLOSED")
    assert presented(server, question) == [None, "0"]
    expect(tab.page.locator("#output")).to_have_text("one")


def test_a_text_in_the_log(server: Server, tab: Tab, proxy: Proxy, channel: str) -> None:
    def say(event_type: str, at: int, text: str, **more: str) -> None:
        server.publish({"channel": channel, "event_type": event_type, "data": {"at": at, "text": text, **more}})

    output = tab.page.locator("#output")
    say("token", 0, "\N{ROCKET} one")
    tab.page.goto(address(tab, LOG, f"?channel={channel}"))
    expect(output).to_have_text("\N{ROCKET} one")
    say("token", 6, " two")
    expect(output).to_have_text("\N{ROCKET} one two")
    tab.page.reload()
    expect(output).to_have_text("\N{ROCKET} one two")
    proxy.refuse = True
    proxy.cut()
    say("token", 10, " three")
    proxy.refuse = False
    expect(output).to_have_text("\N{ROCKET} one two three")
    say("done", 0, "\N{ROCKET} one two three!", reason="end")
    expect(output).to_have_text("\N{ROCKET} one two three!")
    tab.until("wire.sources[0].readyState === EventSource.CLOSED")
