from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from tests.browser.proxy import Proxy
from tests.browser.server import Server
from tests.chromium import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("browser"))
    yield server
    server.stop()
    assert "Traceback" not in server.log.read_text(), server.log.read_text()


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    # Not of the session: tests of other directories run async code and the ORM in this thread.
    with chromium() as browser:
        yield browser


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    proxy = Proxy(server.address)
    yield proxy
    proxy.close()


class Tab:
    """One tab of the browser, that asks through ``proxy``."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.origin = origin
        self.errors: list[str] = []
        self.console: list[str] = []
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", lambda message: self.console.append(message.text))

    def open(self, tags: str, *, path: str = "/page/", **query: str) -> Any:
        """Go to a page with these template tags."""
        return self.page.goto(f"{self.origin}{path}?{urlencode({'tags': tags, **query})}")

    def listen(self, tags: str, **query: str) -> None:
        """Go to a page with these template tags, and wait until its stream is open."""
        self.open(tags, **query)
        self.until("wire.opened")

    def until(self, condition: str) -> None:
        self.page.evaluate(f"() => wire.until(() => {condition})")

    def value(self, expression: str) -> Any:
        """What ``expression`` is in the page. By way of JSON, so that the page's own string is what is compared."""
        return json.loads(self.page.evaluate(f"() => JSON.stringify({expression})"))

    def calls(self, count: int) -> list[Any]:
        """Wait for so many calls of the page's handlers, and return them all."""
        self.until(f"calls.length >= {count}")
        return self.value("calls")

    def events(self, count: int) -> list[Any]:
        """Wait for so many events of any type, and return them all: type, data and last event ID."""
        self.until(f"wire.events.length >= {count}")
        return self.value("wire.events")


@pytest.fixture
def tab(browser: Browser, proxy: Proxy) -> Iterator[Tab]:
    context = browser.new_context()
    context.add_init_script(path=HERE / "watch.js")
    tab = Tab(context.new_page(), f"http://127.0.0.1:{proxy.port}")
    yield tab
    context.close()
    assert tab.errors == []


@pytest.fixture
def channel() -> str:
    return f"public.{uuid4()}"
