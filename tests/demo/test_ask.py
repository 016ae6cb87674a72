"""The page of the generated answer, in a real browser: through the demo's own server, and through gunicorn."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.demo.test_demo import ROOT, Demo, Visit, _environment, _free_port, _serve, _visit
from tests.demo.test_demo import browser as browser
from tests.demo.test_demo import demo as demo
from tests.demo.test_demo import visit as visit
from tests.server import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

RELOADS = 50


@contextmanager
def gunicorn(folder: Path) -> Iterator[str]:
    """The demo as a WSGI server serves it: one worker, few threads, and no connection that stays open."""
    with _serve(folder) as (demo, process, _):
        process.kill()  # it has set up the database
        process.wait()
    port = _free_port()
    options = [f"--bind=127.0.0.1:{port}", "--worker-class=gthread", "--threads=3", "--log-level=warning"]
    output = folder / "gunicorn"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *options, "demo_project.wsgi"],
            cwd=ROOT,
            env=_environment(demo.database, port),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for(lambda: _listens(process, port), "gunicorn listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
    assert "Traceback" not in output.read_text()


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    import socket

    assert process.poll() is None
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(page: Page, length: str) -> None:
    page.get_by_label(length).check()
    page.get_by_role("button", name="Ask", exact=True).click()
    expect(page).to_have_url(re.compile(r"/ask/\w{16}/$"))


def text(page: Page) -> str:
    return page.locator("#streamed").text_content() or ""


def finished(page: Page) -> str:
    expect(page.locator("#streamed")).to_have_attribute("data-reason", re.compile("."), timeout=90_000)
    return text(page)


def test_words_flow_beside_the_same_request_unstreamed(demo: Demo, visit: Visit) -> None:
    page = visit.open(f"{demo.address}/ask/")
    ask(page, "120 words")
    expect(page.locator("#words")).to_have_text(re.compile("^[1-9]"))
    begun = text(page)
    assert page.locator("#unstreamed").text_content() == ""
    expect(page.locator("#state-text")).to_have_text("Writing")
    whole = finished(page)
    assert whole.startswith(begun)
    assert 100 < len(whole.split()) < 200
    expect(page.locator("#state-text")).to_have_text("Complete")
    expect(page.locator("#unstreamed")).to_have_text(whole, use_inner_text=False)
    first, last = (page.locator(f"#{side}-first").text_content() or "" for side in ("streamed", "unstreamed"))
    assert float(first.split()[0]) < float(last.split()[0])


def test_reloaded_fifty_times_nothing_is_lost_or_there_twice(demo: Demo, visit: Visit) -> None:
    page = visit.open(f"{demo.address}/ask/")
    ask(page, "2,000 words")
    shown = []
    for _ in range(RELOADS):
        # At any moment: before the first event, in the middle of the replay, in the middle of the text.
        page.wait_for_timeout(random.uniform(0, 250))
        shown.append(text(page))
        page.reload()
    assert len({len(one) for one in shown}) > RELOADS / 2
    whole = finished(page)
    assert len(whole.split()) >= 2000
    for one in shown:
        assert whole.startswith(one)
    ours = page.evaluate(
        "async () => (await (await fetch(document.getElementById('answers').dataset.whole)).json()).text"
    )
    assert whole == ours, "the same request, unstreamed, has the same text"
    page.reload()
    assert finished(page) == whole
    expect(page.locator("#events")).to_have_text("1")


def test_the_stream_of_a_complete_text_is_closed(demo: Demo, visit: Visit) -> None:
    visit.context.add_init_script(
        "window.sources = []; const Native = EventSource;"
        "window.EventSource = class extends Native { constructor(...given) { super(...given); sources.push(this); } };"
    )
    page = visit.open(f"{demo.address}/ask/")
    ask(page, "120 words")
    expect(page.locator("#words")).to_have_text(re.compile("^[1-9]"))
    assert page.evaluate("() => sources.map((source) => source.readyState)") == [1]
    finished(page)
    assert page.evaluate("() => sources.map((source) => source.readyState)") == [2]


def test_a_second_tab_and_a_stop(demo: Demo, visit: Visit) -> None:
    page = visit.open(f"{demo.address}/ask/")
    ask(page, "2,000 words")
    other = visit.open(page.url)
    expect(other.locator("#words")).to_have_text(re.compile(r"^\d\d"))
    expect(page.locator("#words")).to_have_text(re.compile(r"^\d\d"))
    other.get_by_role("button", name="Stop").click()
    for tab in (page, other):
        expect(tab.locator("#state-text")).to_have_text("Stopped")
    assert finished(page) == finished(other)
    assert len(text(page).split()) < 2000


def test_the_focus_goes_from_a_button_that_goes_to_its_text(demo: Demo, visit: Visit) -> None:
    page = visit.open(f"{demo.address}/ask/")
    ask(page, "120 words")
    again = page.get_by_role("button", name="Ask so again")
    again.press("Enter")
    expect(again).to_be_hidden()
    expect(page.get_by_role("region", name="The answer, unstreamed")).to_be_focused()
    page.goto(f"{demo.address}/ask/")
    ask(page, "2,000 words")
    page.get_by_role("button", name="Stop").press("Enter")
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    expect(page.get_by_role("region", name="The answer, streamed")).to_be_focused()


def test_without_script_a_stop_comes_back_to_its_page(demo: Demo, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{demo.address}/ask/")
    page.fill("#question", "Does it come back?")
    ask(page, "2,000 words")
    address = page.url
    with page.expect_navigation():
        page.get_by_role("button", name="Stop").click()
    assert page.url == address
    expect(page.locator("#question")).to_have_value("Does it come back?")
    context.close()


def test_what_a_killed_server_did_not_finish_is_begun_again(browser: Browser, tmp_path: Path) -> None:
    with _visit(browser) as visit, _serve(tmp_path) as (demo, process, _):
        page = visit.open(f"{demo.address}/ask/")
        ask(page, "2,000 words")
        expect(page.locator("#words")).to_have_text(re.compile(r"^\d\d"))
        process.kill()
        process.wait()
        begun = text(page)
        with _serve(tmp_path, demo.port):
            whole = finished(page)
            expect(page.locator("#state-text")).to_have_text("Complete")
            assert whole.startswith(begun)
            assert len(whole.split()) >= 2000


ANSWER = """
import sys, django
django.setup()
from django.core.management import call_command
call_command("migrate", verbosity=0)
from demo_project.ask import answers
question = answers.Question("?", "long", id="1", seed=1)
answers.take_up(question)
answers.take_up(question)
print(len(answers._answering), flush=True)
sys.stdin.read()
"""


def test_one_process_answers_at_a_time(tmp_path: Path) -> None:
    env = {**_environment(tmp_path / "demo.sqlite3", 0), "DJANGO_SETTINGS_MODULE": "demo_project.settings"}

    def start() -> subprocess.Popen[str]:
        command, pipe = [sys.executable, "-c", ANSWER], subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env=env, stdin=pipe, stdout=pipe, text=True)

    answering = []
    processes: list[subprocess.Popen[str]] = []
    for _ in range(3):
        if len(processes) == 2:  # the third comes when the first is gone, and the second still there
            processes[0].kill()
            processes[0].communicate()
        processes.append(start())
        answering.append(processes[-1].stdout.readline())  # type: ignore[union-attr]
    for process in processes[1:]:
        process.kill()
        process.communicate()
    assert answering == ["1\n", "0\n", "1\n"]


def test_nobody_else_reads_it(demo: Demo, visit: Visit, browser: Browser) -> None:
    page = visit.open(f"{demo.address}/ask/")
    ask(page, "120 words")
    with _visit(browser) as stranger:
        for path in ("", "stream/", "whole/"):
            assert stranger.context.request.get(page.url + path).status in (403, 404)


@pytest.mark.parametrize("width", [360, 1280])
def test_the_answer_fits(demo: Demo, browser: Browser, width: int) -> None:
    with _visit(browser, width=width) as visit:
        page = visit.open(f"{demo.address}/ask/")
        ask(page, "120 words")
        expect(page.locator("#words")).to_have_text(re.compile("^[1-9]"))
        assert page.evaluate("() => document.documentElement.scrollWidth") == width
        assert visit.complaints == []


def test_where_no_connection_stays_open_the_same_page_polls(browser: Browser, tmp_path: Path) -> None:
    with gunicorn(tmp_path) as address, _visit(browser) as visit:
        requests: list[str] = []
        visit.context.on("request", lambda request: "/stream/" in request.url and requests.append(request.url))
        page = visit.open(f"{address}/ask/")
        ask(page, "120 words")
        expect(page.locator("#words")).to_have_text(re.compile("^[1-9]"))
        page.reload()
        whole = finished(page)
        assert len(whole.split()) > 100
        page.reload()
        assert finished(page) == whole
        assert len(requests) > 2
        assert visit.complaints == []
