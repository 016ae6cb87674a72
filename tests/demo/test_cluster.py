"""``make demo-cluster``: a uvicorn is killed, and the page misses nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from playwright.sync_api import expect

from demo_project import nginx
from tests.chromium import chromium
from tests.server import ROOT, free_port, wait_for
from tests.services import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Page

STARTING = 90
STOPPING = 30
OF_THE_DEVELOPER = {
    "PGUSER": "nobody-here",
    "PGDATABASE": "none-here",
    "PGPORT": "1",
    "PGOPTIONS": "-c nonsense=1",
    "http_proxy": "http://127.0.0.1:1",
}
"""What the cluster's environment says about servers that are not its own."""

# What the page's own handler is called with, and a way to publish as its form does.
WATCH = """() => {
  const { add } = window.bell;
  window.titles = [];
  window.bell.add = (data) => { titles.push(data.title); add(data); };
  window.send = async (title) => {
    const headers = { "X-CSRFToken": document.cookie.match(/csrftoken=([^;]*)/)[1], "X-Requested-With": "fetch" };
    const body = new URLSearchParams({ title });
    const { status } = await fetch("/notification/", { method: "POST", headers, body });
    return status;
  };
}"""


class Cluster:
    def __init__(self, port: int, process: subprocess.Popen[str], output: Path) -> None:
        self.address = f"http://127.0.0.1:{port}/"
        self.process = process
        self.output = output

    @property
    def text(self) -> str:
        return self.output.read_text()

    def pids(self, name: str) -> list[int]:
        return [int(pid) for pid in re.findall(rf"^{name}.* process (\d+)$", self.text, re.MULTILINE)]


def need_servers() -> None:
    if not nginx.find():
        missing("This test needs nginx (Debian package nginx-light).")
    if not shutil.which("redis-server"):
        missing("This test needs redis-server (Debian package redis-server).")
    if not (shutil.which("initdb") or list(Path("/usr/lib/postgresql").glob("*/bin/initdb"))):
        missing("This test needs PostgreSQL's initdb (Debian package postgresql).")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    need_servers()
    port = free_port()
    output = tmp_path / "output"
    dropped = ("DJANGO_SETTINGS_MODULE", "DEMO_POSTGRESQL", "DEMO_REDIS", "no_proxy", "NO_PROXY")
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "demo_project.cluster"],
            cwd=ROOT,
            env={**env, **OF_THE_DEVELOPER, "PORT": str(port)},
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        )
    running = Cluster(port, process, output)
    try:
        wait_for(lambda: process.poll() is not None or "Ctrl-C" in running.text, "the cluster is up", STARTING)
        assert process.poll() is None, running.text
        yield running
    finally:
        # Never killed: it has others to stop.
        process.send_signal(signal.SIGINT)
        process.wait(STOPPING)


def holds_the_stream(pid: int) -> bool:
    """Whether nginx has a connection open to this uvicorn, which it has only for streams while no page is loaded."""
    connections = psutil.Process(pid).net_connections("tcp")
    return any(connection.status == psutil.CONN_ESTABLISHED for connection in connections)


def send(page: Page, *titles: str) -> None:
    for title in titles:
        assert page.evaluate("(title) => send(title)", title) == 204


def until(page: Page, condition: str) -> None:
    """Playwright's own way is not allowed by the demo's policy: it evaluates text in the page."""
    wait_for(lambda: page.evaluate(condition), condition)


def test_a_page_misses_nothing_when_its_server_is_killed(cluster: Cluster) -> None:
    uvicorns = cluster.pids("uvicorn")
    assert len(uvicorns) == 2
    with chromium() as browser:
        page = browser.new_page()
        page.goto(cluster.address)
        until(page, "document.getElementById('pulse').dataset.state === 'live'")
        page.evaluate(WATCH)
        send(page, "one", "two")
        until(page, "titles.length === 2")
        serving = [pid for pid in uvicorns if holds_the_stream(pid)]
        assert len(serving) == 1
        os.kill(serving[0], signal.SIGKILL)
        # Not before it is gone: nginx does not repeat a POST that it had sent to a server, and answers 502.
        wait_for(lambda: "has ended with -9" in cluster.text, "the cluster says who has ended")
        send(page, "three", "four")
        until(page, "titles.length === 4")
        assert page.evaluate("titles") == ["one", "two", "three", "four"]
        # The other one serves it now.
        assert [pid for pid in uvicorns if pid not in serving and holds_the_stream(pid)]
    stop(cluster, signal.SIGINT)


def stop(cluster: Cluster, number: signal.Signals) -> None:
    """By this signal, and no other disturbs it: it leaves nothing."""
    command = " ".join(psutil.Process(cluster.pids("nginx")[0]).cmdline())
    folder = Path(re.findall(r"-p (\S+)/nginx", command)[0])
    assert folder.is_dir()
    started = [pid for name in ("postgresql", "redis", "uvicorn", "nginx") for pid in cluster.pids(name)]
    assert len(started) == 5
    cluster.process.send_signal(number)
    wait_for(lambda: cluster.process.poll() is not None or "Stopping." in cluster.text, "it says so")
    for another in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        cluster.process.send_signal(another)
    assert cluster.process.wait(STOPPING) == 0
    assert [pid for pid in started if psutil.pid_exists(pid)] == []
    assert not folder.exists()
    assert "Traceback" not in cluster.text


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whatever_ends_it_it_leaves_nothing(cluster: Cluster, number: signal.Signals) -> None:
    stop(cluster, number)


def test_websockets_go_through_to_both_processes(cluster: Cluster) -> None:
    with chromium() as browser:
        page = browser.new_page()
        sockets: list[str] = []
        page.on("websocket", lambda socket: sockets.append(socket.url))
        page.goto(f"{cluster.address}versus/")
        for side in ("source", "socket"):
            expect(page.locator(f"#{side}-state")).to_have_attribute("data-state", "live")
        # nginx sends requests to the two by turns, so some are published where the socket is not.
        for number in range(1, 5):
            page.click("#publish")
            for side in ("source", "socket"):
                expect(page.locator(f"#{side}-received")).to_have_text(str(5 * number))
        assert len(sockets) >= 2, "the notifications and the chat"
        assert page.locator("#socket-missed").text_content() == "0"
    assert "Traceback" not in cluster.text


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    """An empty PATH has no redis; the interpreter is named with its full path."""
    done = subprocess.run(
        [sys.executable, "-m", "demo_project.cluster"],
        cwd=ROOT,
        env={"PATH": str(tmp_path), "DEMO_POSTGRESQL": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=STARTING,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == "redis-server was not found. On Debian: apt-get install redis-server\n"
