"""Chromium through a real nginx whose only server is killed and comes back: who is live again, and who gives up."""

from __future__ import annotations

import signal
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import pytest

from tests.browser.conftest import HERE, Tab
from tests.browser.middleware import POLICY
from tests.nginx import nginx
from tests.proxy import proxy_to
from tests.server import ROOT, free_port, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.browser.server import Server as Daphne
    from tests.server import Server

ERROR_PAGE = "error_page 502 503 504 = @ask_again;"
PROMISED = 15.0
"""Seconds after the server's return in which a page is live again."""


class Site:
    """A uvicorn that a test may kill and start again on the same port, behind nginx."""

    def __init__(self, directory: Path, daphne: Daphne) -> None:
        self.elsewhere = daphne
        """Publishes also while the site is down: a process of its own on the same database."""
        self.port = free_port()
        self._directory = directory
        self._env = {"BROWSER_TEST_DATABASE": daphne._environment["BROWSER_TEST_DATABASE"]}
        self._stack = ExitStack()
        self._count = 0
        self._server: Server | None = None

    def start(self) -> None:
        self._count += 1
        output = self._directory / f"uvicorn-{self._count}.log"
        serving = serve("uvicorn", "tests.browser.settings", output, self._env, port=self.port)
        self._server = self._stack.enter_context(serving)

    def kill(self) -> None:
        assert self._server
        self._server.stop(signal.SIGKILL)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def site(tmp_path: Path, server: Daphne) -> Iterator[Site]:
    site = Site(tmp_path, server)
    site.start()
    yield site
    site.close()


Front = "Callable[..., AbstractContextManager[Server]]"


@pytest.fixture
def front(site: Site, tmp_path: Path) -> Front:
    """nginx before the site: ``front()`` as ``deploy/`` has it, ``front(recipe=False)`` without its answer to streams
    when no server is there."""

    @contextmanager
    def front(*, recipe: bool = True) -> Iterator[Server]:
        directory = tmp_path / "nginx"
        directory.mkdir()
        replaced = {} if recipe else {ERROR_PAGE: ""}
        with nginx(directory, site.port, static=ROOT / "django_sse/static", **replaced) as running:
            yield running

    return front


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[[int], Tab]]:
    """``visit(port)``: a new tab, all of one window."""
    context = browser.new_context()
    context.add_init_script(path=HERE / "watch.js")
    tabs: list[Tab] = []

    def visit(port: int) -> Tab:
        tabs.append(Tab(context.new_page(), f"http://127.0.0.1:{port}"))
        return tabs[-1]

    yield visit
    context.close()
    assert [tab.errors for tab in tabs] == [[] for _ in tabs]


def publish(site: Site, channel: str, *numbers: int) -> None:
    site.elsewhere.publish(*({"channel": channel, "data": number} for number in numbers))


def numbers(tab: Tab, count: int) -> list[int]:
    return [call[1] for call in tab.calls(count)]


def state(tab: Tab) -> str:
    return tab.value("document.documentElement.dataset.sse")


def robust(*channels: str, more: str = "") -> str:
    names = " ".join(f'"{channel}"' for channel in channels)
    return f'{{% event_source {names} handler="updateUI" robust=True {more} %}}'


def test_the_robust_client_is_live_again_after_502(site: Site, front: Front, visit, channel: str) -> None:
    with front(recipe=False) as running:
        tab = visit(running.port)
        tab.listen(robust(channel))
        publish(site, channel, 1, 2)
        tab.calls(2)
        given_up = "wire.sources.filter((source) => source.readyState == EventSource.CLOSED).length"
        # The second time once: pauses are up to 8 and 10 seconds by then, since the client was not open for long.
        for number, times in ((3, 3), (6, 1)):
            site.kill()
            publish(site, channel, number, number + 1)
            tab.until("document.documentElement.dataset.sse == 'connecting'")
            before = tab.value(given_up)
            tab.until(f"{given_up} >= {before} + {times}")
            site.start()
            began = monotonic()
            publish(site, channel, number + 2)
            tab.calls(number + 2)
            assert monotonic() - began < PROMISED
            assert state(tab) == "open"
        assert numbers(tab, 8) == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_native_source_is_live_again_with_the_recipe(site: Site, front: Front, visit, channel: str) -> None:
    with front() as running:
        tab = visit(running.port)
        tab.listen(f'{{% event_source "{channel}" handler="updateUI" %}}')
        publish(site, channel, 1, 2)
        tab.calls(2)
        site.kill()
        publish(site, channel, 3, 4)
        opened = tab.value("wire.opened")
        tab.until(f"wire.opened >= {opened} + 2")  # nginx has told it twice when to come back
        site.start()
        began = monotonic()
        publish(site, channel, 5)
        assert numbers(tab, 5) == [1, 2, 3, 4, 5]
        assert monotonic() - began < PROMISED
        assert tab.value("wire.sources.length") == 1


def test_the_robust_client_and_the_recipe_go_together(site: Site, front: Front, visit, channel: str) -> None:
    with front() as running:
        tab = visit(running.port)
        tab.listen(robust(channel))
        publish(site, channel, 1)
        tab.calls(1)
        site.kill()
        publish(site, channel, 2)
        opened = tab.value("wire.opened")
        tab.until(f"wire.opened >= {opened} + 2")
        assert state(tab) == "connecting"  # that nginx answers is not yet a stream
        site.start()
        publish(site, channel, 3)
        assert numbers(tab, 3) == [1, 2, 3]
        assert tab.value("wire.sources.length") == 1


def test_a_native_source_without_the_recipe_gives_up(site: Site, front: Front, visit, channel: str) -> None:
    """The browser's behaviour (9.2.3: any answer but 200 fails the connection), and the reason of the client."""
    with front(recipe=False) as running:
        tab = visit(running.port)
        tab.listen(f'{{% event_source "{channel}" handler="updateUI" %}}')
        site.kill()
        tab.until("wire.sources[0].readyState == EventSource.CLOSED")
        site.start()
        publish(site, channel, 1)
        # Another tab, opened later, hears it; this one will not, ever.
        other = visit(running.port)
        other.listen(f'{{% event_source "{channel}" handler="updateUI" since=0 %}}')
        other.calls(1)
        assert tab.value("wire.sources[0].readyState") == 2
        assert tab.value("calls") == []


def test_offline_and_online(site: Site, front: Front, visit, channel: str) -> None:
    with front() as running:
        tab = visit(running.port)
        tab.listen(robust(channel))
        publish(site, channel, 1)
        tab.calls(1)
        tab.page.evaluate(
            "() => { globalThis.states = [];"
            " document.addEventListener('sse:state', (event) => states.push(event.detail.state)); }"
        )
        tab.page.context.set_offline(True)
        tab.until("states.includes('offline')")
        publish(site, channel, 2, 3)
        tab.page.context.set_offline(False)
        assert numbers(tab, 3) == [1, 2, 3]
        tab.until("document.documentElement.dataset.sse == 'open'")
        assert tab.value("wire.sources.length") >= 2  # the old connection is not trusted


def test_a_connection_that_has_gone_silent_is_noticed(site: Site, front: Front, visit, channel: str) -> None:
    """Half-open, as after a laptop's sleep: nothing comes, and nothing says so. Native sources wait for ever."""
    with front() as running, proxy_to("127.0.0.1", running.port) as network:
        tab = visit(network.port)
        tab.listen(robust(channel))
        publish(site, channel, 1)
        tab.calls(1)
        tab.until("wire.events.some((event) => event[0] == 'sse.heartbeat')")
        network.go_silent()
        publish(site, channel, 2)
        tab.until("wire.sources.length == 2 && wire.sources[0].readyState == EventSource.CLOSED")
        assert state(tab) == "connecting"
        network.accept()
        publish(site, channel, 3)
        assert numbers(tab, 3) == [1, 2, 3]


def test_two_tabs_and_the_worst_of_two_sources(site: Site, front: Front, visit, channel: str) -> None:
    with front() as running:
        one, two = visit(running.port), visit(running.port)
        one.open(robust(channel) + robust(f"{channel}.other"))
        two.listen(robust(channel))
        one.until("wire.opened == 2")
        site.kill()
        one.until("document.documentElement.dataset.sse == 'connecting'")
        publish(site, channel, 1)
        site.start()
        assert numbers(one, 1) == numbers(two, 1) == [1]
        one.until("document.documentElement.dataset.sse == 'open'")


def test_a_page_kept_for_the_back_button(site: Site, front: Front, visit, channel: str) -> None:
    with front() as running:
        tab = visit(running.port)
        tab.listen(robust(channel))
        publish(site, channel, 1)
        tab.calls(1)
        tab.page.evaluate("() => addEventListener('pageshow', (event) => { globalThis.kept = event.persisted; })")
        tab.page.goto(f"{tab.origin}/static/django_sse/client.js")
        publish(site, channel, 2)
        tab.page.go_back(wait_until="commit")
        assert numbers(tab, 2) == [1, 2]
        assert tab.value("kept")
        assert tab.value("wire.sources.map((source) => source.readyState)") == [2, 1]


def test_a_reset_is_told_and_a_page_can_catch_up(site: Site, front: Front, visit, channel: str) -> None:
    with front() as running:
        tab = visit(running.port)
        tab.listen(robust(channel, more='since="999999" events="message sse.reset:onStatus"'))
        (told,) = tab.calls(1)
        assert told[0] == "onStatus"
        assert told[1]["reason"] == "ahead"
        assert state(tab) == "reset"
        publish(site, channel, 1)
        assert tab.calls(2)[1] == ["updateUI", 1]
        assert state(tab) == "reset"


def test_under_a_policy_of_nonces_alone(site: Site, front: Front, visit, channel: str) -> None:
    """A module passes its nonce on to what it imports."""
    with front() as running:
        tab = visit(running.port)
        answer = tab.open(robust(channel), csp="request")
        assert answer.headers["content-security-policy"].startswith(POLICY.split("{", maxsplit=1)[0])
        tab.until("wire.opened")
        publish(site, channel, 1)
        assert numbers(tab, 1) == [1]
        assert tab.value("wire.violations") == []
