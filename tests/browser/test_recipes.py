"""The recipes of docs/htmx.md, as they are printed there, in Chromium: cut, refused, and every row there once."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.packages import need_packages

if TYPE_CHECKING:
    from tests.browser.conftest import Tab
    from tests.browser.proxy import Proxy
    from tests.browser.server import Server

PAGE = Path(__file__).parents[2] / "docs/htmx.md"


def recipe(heading: str, channel: str) -> str:
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(r"^```html\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return re.sub(r'{% static "(.*?)" %}', r"/library/\1", code).replace("public.orders", channel)


def rows(channel: str, *numbers: int, text: str = "<li>{}</li>") -> list[dict[str, Any]]:
    return [{"channel": channel, "text": text.format(number)} for number in numbers]


def shown(tab: Tab, count: int) -> list[str]:
    tab.page.wait_for_function(f"() => document.querySelectorAll('#orders li').length >= {count}", timeout=30_000)
    return tab.page.locator("#orders li").all_text_contents()


def opened(tab: Tab, heading: str, channel: str) -> None:
    need_packages()
    body = urlsafe_b64encode(recipe(heading, channel).encode()).decode()
    with tab.page.expect_response("**/events/**"):
        tab.page.goto(f"{tab.origin}/recipe/{body}/")


@pytest.mark.parametrize("heading", ["htmx 4", "htmx 2", "Alpine"])
def test_each_row_is_there_once(server: Server, tab: Tab, proxy: Proxy, channel: str, heading: str) -> None:
    text = "{}" if heading == "Alpine" else "<li>{}</li>"
    opened(tab, heading, channel)
    server.publish(*rows(channel, 1, 2, text=text))
    assert shown(tab, 2) == ["1", "2"]
    proxy.refuse = True
    proxy.cut()
    server.publish(*rows(channel, 3, 4, 5, text=text))
    proxy.refuse = False
    assert shown(tab, 5) == ["1", "2", "3", "4", "5"]
    server.publish(*rows(channel, 6, text=text))
    assert shown(tab, 6) == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("heading", ["htmx 4", "htmx 2"])
def test_an_error_page_of_a_proxy_does_not_repeat_them(
    server: Server, tab: Tab, proxy: Proxy, channel: str, heading: str
) -> None:
    opened(tab, heading, channel)
    server.publish(*rows(channel, 1, 2))
    assert shown(tab, 2) == ["1", "2"]
    tab.page.route("**/events/**", lambda route: route.fulfill(status=502, body="Bad gateway"), times=1)
    with tab.page.expect_response(lambda response: response.status == 502):
        proxy.cut()
    server.publish(*rows(channel, 3))
    assert shown(tab, 3) == ["1", "2", "3"]
    server.publish(*rows(channel, 4))
    assert shown(tab, 4) == ["1", "2", "3", "4"]


def test_what_users_wrote_is_no_markup(server: Server, tab: Tab, channel: str) -> None:
    opened(tab, "Alpine", channel)
    server.publish(*rows(channel, 1, text="<img src=x onerror=alert({})>"))
    assert shown(tab, 1) == ["<img src=x onerror=alert(1)>"]
