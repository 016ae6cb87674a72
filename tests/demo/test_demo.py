"""The demo as a visitor sees it: ``manage.py demo`` in a process of its own, and a real browser."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

import pytest
from playwright.sync_api import expect

from tests.chromium import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, Page, Route

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("/", "/orders/", "/reconnect/", "/ask/", "/versus/", "/raw/")
PATIENCE = 30
"""Seconds after which something that should happen counts as not happening; nothing waits for it to pass."""


class Demo(NamedTuple):
    address: str
    port: int
    database: Path


def _free_port() -> int:
    for port in range(8100, 8150):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    pytest.fail("No port between 8100 and 8149 is free.")


def _environment(database: Path, port: int) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return {**inherited, "DEMO_DATABASE": str(database), "PORT": str(port)}


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


@contextmanager
def _serve(folder: Path, port: int = 0) -> Iterator[tuple[Demo, subprocess.Popen[bytes], Path]]:
    """Run ``manage.py demo``, give it while it answers, and leave no process behind."""
    port = port or _free_port()
    demo = Demo(f"http://127.0.0.1:{port}", port, folder / "demo.sqlite3")
    output = folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "manage.py", "demo"],
            cwd=ROOT,
            env=_environment(demo.database, port),
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        deadline = monotonic() + PATIENCE
        while not _answers(demo.address):
            if process.poll() is not None or monotonic() > deadline:
                pytest.fail(f"The demo does not answer:\n{output.read_text()}")
        yield demo, process, output
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with _serve(tmp_path_factory.mktemp("demo")) as (demo, _, output):
        yield demo
        assert "Traceback" not in output.read_text()


class Visit:
    """One visitor's window, which remembers every complaint of the browser."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.complaints: list[str] = []
        context.on("weberror", lambda error: self.complaints.append(f"uncaught: {error.error}"))
        context.on("console", lambda message: self._hear(message.type, message.text))
        context.on(
            "response",
            lambda response: response.status >= 400 and self._hear("error", f"{response.status} {response.url}"),
        )
        # Beside the console's message, which a browser may word as it likes.
        context.expose_function("complain", lambda text: self.complaints.append(text))
        context.add_init_script(
            'addEventListener("securitypolicyviolation", (event) => complain("policy: " + event.violatedDirective));'
        )

    def _hear(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(f"{kind}: {text}")

    def open(self, address: str) -> Page:
        page = self.context.new_page()
        page.goto(address)
        return page


@contextmanager
def _visit(browser: Browser, width: int = 1280, scheme: str = "light") -> Iterator[Visit]:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE * 1000)
    try:
        yield Visit(context)
    finally:
        context.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    with _visit(browser) as visit:
        yield visit
        assert visit.complaints == []


def _log_in(page: Page, address: str) -> None:
    page.goto(f"{address}/admin/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", "admin")
    page.click("[type=submit]")
    expect(page.locator("#user-tools")).to_be_visible()


def test_one_event_source_feeds_the_chart_the_health_the_bell_and_the_banner(demo: Demo, visit: Visit) -> None:
    streams: list[str] = []
    visit.context.on("request", lambda request: "/events/" in request.url and streams.append(request.url))
    page = visit.open(demo.address)

    expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
    expect(page.locator('[data-series="memory"] .value')).to_have_text(re.compile(r"^\d+\.\d\s%$"))
    expect(page.locator('[data-series="load"] .value')).to_have_text(re.compile(r"^\d+\.\d\d$"))
    expect(page.locator('[data-series="cpu"] path.curve')).to_have_attribute("d", re.compile(r"^M[\d.]+ [\d.]+L"))
    expect(page.locator("#health li")).to_have_count(5)
    expect(page.locator("#health li").first).to_have_attribute("data-healthy", "yes")
    # Told because it changed: this page's own stream was opened.
    streams_part = page.locator("#health li", has=page.get_by_text("Streams", exact=True))
    expect(streams_part.locator(".value")).to_have_text("1")

    page.fill("#title", 'Tea & "scones" <b>now</b>')
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#list li").first.locator(".title")).to_have_text('Tea & "scones" <b>now</b>')
    expect(page.locator("#list li").first).to_have_attribute("data-unread", "")
    expect(page.locator("#badge")).to_have_text(re.compile(r"^\d+$"))

    page.get_by_role("button", name="Raise a drill").click()
    expect(page.locator('[data-alert="drill"]')).to_contain_text("This is a drill")
    page.get_by_role("button", name="Clear it").click()
    expect(page.locator('[data-alert="drill"]')).to_have_count(0)
    # This machine may be busy enough for an alert of its own, so: the calm line is there where no alert is.
    expect(
        page.locator("#banner:has(.alert) #calm:not([hidden]), #banner:not(:has(.alert)) #calm[hidden]")
    ).to_have_count(0)

    assert len(streams) == 1, streams


def test_what_was_read_stays_read(demo: Demo, visit: Visit) -> None:
    page = visit.open(demo.address)
    page.fill("#title", "Read me once")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("#list li").first).to_contain_text("Read me once")
    page.locator("#bell").click()
    expect(page.locator("#badge")).to_be_hidden()
    page.goto("about:blank")
    page.goto(demo.address)

    # The stream brings it again, since the page asks for the last events.
    expect(page.locator("#list li", has_text="Read me once")).to_have_count(1)
    expect(page.locator("#badge")).to_be_hidden()


def test_the_page_shows_the_script_that_the_tag_put_into_it(demo: Demo, visit: Visit) -> None:
    page = visit.open(demo.address)
    shown = page.locator("[data-source]")

    expect(shown).to_contain_text("const source = new EventSource(")
    for call in ("bell.add(data)", "chart.add(data)", "health.show(data)", "banner.show(data)", "onerror"):
        expect(shown).to_contain_text(call)
    assert "innerHTML" not in (shown.text_content() or "")


def test_an_order_saved_in_the_admin_moves_in_the_other_tab(demo: Demo, visit: Visit) -> None:
    orders = visit.open(f"{demo.address}/orders/")
    dashboard = visit.open(demo.address)
    admin = visit.context.new_page()
    _log_in(admin, demo.address)

    admin.goto(f"{demo.address}/admin/orders/order/add/")
    admin.fill("#id_customer", "Hedy <Lamarr>")
    admin.fill("#id_item", "Frequency hopper")
    admin.fill("#id_quantity", "3")
    admin.fill("#id_total", "96.30")
    admin.click("[name=_continue]")
    expect(admin.locator(".success")).to_be_visible()
    number = re.findall(r"/order/(\d+)/", admin.url)[0]

    row = orders.locator(f'[data-order="{number}"]')
    expect(row.locator(".customer")).to_have_text("Hedy <Lamarr>")
    expect(row.locator(".what")).to_have_text("3 \N{MULTIPLICATION SIGN} Frequency hopper")
    expect(row.locator(".total")).to_have_text("96.30")
    expect(row).to_have_attribute("data-state", "placed")
    expect(dashboard.locator("#list")).to_contain_text(f"Order {number} is new")

    admin.select_option("#id_state", "shipped")
    admin.click("[name=_continue]")
    expect(row).to_have_attribute("data-state", "shipped")
    expect(row).to_have_attribute("data-fresh", "")
    expect(orders.locator("[data-fresh]")).to_have_count(1)
    expect(orders.locator("#news")).to_have_text(f"Order {number} is shipped.")
    expect(dashboard.locator("#list")).to_contain_text(f"Order {number} is shipped")

    # The row was made by script: its button must lead to this order all the same.
    row.locator(".advance button").click()
    expect(row).to_have_attribute("data-state", "delivered")
    expect(row.locator(".advance")).to_be_hidden()

    admin.goto(f"{demo.address}/admin/orders/order/{number}/delete/")
    admin.locator("#content [type=submit]").click()
    expect(row).to_have_count(0)


def test_the_buttons_of_the_orders_page_go_round_through_the_stream(demo: Demo, visit: Visit) -> None:
    page = visit.open(f"{demo.address}/orders/")
    other = visit.open(f"{demo.address}/orders/")
    newest = int(page.locator(".order").first.get_attribute("data-order") or 0)

    page.get_by_role("button", name="Place an order").click()
    for window in (page, other):
        expect(window.locator(".order").first).to_have_attribute("data-order", re.compile(r"\d+"))
        expect(window.locator(f'[data-order="{newest}"]')).not_to_have_attribute("data-fresh", "")
        expect(window.locator(".order").first).to_have_attribute("data-fresh", "")
    number = page.locator(".order").first.get_attribute("data-order")
    assert int(number or 0) > newest

    page.locator(f'[data-order="{number}"] .advance button').click()
    expect(other.locator(f'[data-order="{number}"] .state-name')).to_have_text("paid")
    other.locator(f'[data-order="{number}"] .delete button').click()
    expect(page.locator(f'[data-order="{number}"]')).to_have_count(0)


def test_what_is_saved_between_rendering_and_connecting_is_not_lost(demo: Demo, visit: Visit) -> None:
    page = visit.context.new_page()
    other = visit.open(f"{demo.address}/orders/")
    held: list[object] = []
    page.route("**/events/**", lambda route: held.append(route))
    page.goto(f"{demo.address}/orders/")
    before = page.locator(".order").count()
    with page.expect_response("**/orders/create/"):
        page.get_by_role("button", name="Place an order").click()
    expect(other.locator(".order")).to_have_count(before + 1)  # it is published, and this page has not connected

    assert page.locator(".order").count() == before
    (route,) = held
    route.continue_()
    expect(page.locator(".order")).to_have_count(before + 1)


@pytest.mark.parametrize(
    ("button", "greeting"),
    [
        ("cut", re.compile(r"The browser came back by itself with Last-Event-ID: (\d+)")),
        ("leave", re.compile(r"A new EventSource with \?since=(\d+)")),
    ],
)
def test_coming_back_misses_nothing(demo: Demo, visit: Visit, button: str, greeting: re.Pattern[str]) -> None:
    page = visit.open(f"{demo.address}/reconnect/")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    page.fill("#count", "5")
    page.click("#live")
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "complete")
    last = page.locator("#last-id").text_content()
    expect(page.locator("#replayed")).to_have_text("0")

    page.fill("#count", "40")
    page.click(f"#{button}")
    expect(page.locator("#received")).to_have_text("45")
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "complete")
    expect(page.locator("#replayed")).to_have_text("40")
    back = page.locator(".stretch").last
    expect(back.locator(".stretch-text")).to_have_text(greeting)
    assert greeting.findall(back.locator(".stretch-text").text_content() or "") == [last]
    # Not only what the page says: each number once and in order, and all of the second forty after coming back.
    numbers = [
        int(text.split()[0])
        for text in page.locator("#course .chip").evaluate_all(
            "chips => chips.map(chip => chip.firstChild.textContent)"
        )
    ]
    assert numbers == list(range(1, 46))
    expect(back.locator('.chip[data-kind="replayed"]')).to_have_count(40)

    page.fill("#count", "3")
    page.click("#live")
    expect(page.locator("#received")).to_have_text("48")
    expect(page.locator("#replayed")).to_have_text("40")
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "complete")


def test_the_verdict_sees_a_gap(demo: Demo, visit: Visit) -> None:
    page = visit.open(f"{demo.address}/reconnect/")
    expect(page.locator("#connection")).to_have_attribute("data-state", "live")
    # Number 1 is published, but under the name of another run.
    page.route(
        "**/publish/",
        lambda route: route.continue_(url=re.sub(r"/reconnect/\w+/", "/reconnect/elsewhere/", route.request.url)),
        times=1,
    )
    page.fill("#count", "1")
    with page.expect_response("**/publish/"):
        page.click("#live")
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "waiting")

    page.click("#live")
    expect(page.locator("#verdict")).to_have_attribute("data-verdict", "broken")
    expect(page.locator("#verdict-text")).to_contain_text("missing")


@pytest.mark.parametrize("button", ["cut", "leave", "live"])
@pytest.mark.parametrize("answer", ["502", "none"])
def test_what_could_not_be_published_is_no_loss(demo: Demo, browser: Browser, button: str, answer: str) -> None:
    with _visit(browser) as visit:  # the browser complains of the answer, rightly
        page = visit.open(f"{demo.address}/reconnect/")
        expect(page.locator("#connection")).to_have_attribute("data-state", "live")
        refuse = {"502": lambda route: route.fulfill(status=502), "none": lambda route: route.abort()}[answer]
        page.route("**/publish/", refuse, times=1)
        page.click(f"#{button}")
        expect(page.locator("#failure")).to_have_text(re.compile("^Publishing failed: the server "))
        expect(page.locator("#published")).to_have_text("0")
        expect(page.locator("#verdict")).to_have_attribute("data-verdict", "idle")
        expect(page.locator("#connection")).to_have_attribute("data-state", "live")
        page.click("#live")
        expect(page.locator("#verdict")).to_have_attribute("data-verdict", "complete")
        expect(page.locator("#published")).to_have_text("12")
        expect(page.locator("#replayed")).to_have_text("0")
        expect(page.locator("#failure")).to_be_empty()


def test_what_was_published_counts_although_the_answer_was_lost(demo: Demo, browser: Browser) -> None:
    def lose(route: Route) -> None:
        route.fetch()
        route.fulfill(status=502)

    with _visit(browser) as visit:
        page = visit.open(f"{demo.address}/reconnect/")
        expect(page.locator("#connection")).to_have_attribute("data-state", "live")
        page.route("**/publish/", lose, times=1)
        page.click("#live")
        expect(page.locator("#failure")).to_contain_text("502")
        expect(page.locator("#verdict")).to_have_attribute("data-verdict", "complete")
        expect(page.locator("#published")).to_have_text("12")


def test_a_job_tells_how_far_it_is_and_is_not_begun_again(demo: Demo, visit: Visit) -> None:
    page = visit.open(f"{demo.address}/raw/")
    page.evaluate(
        "() => { const Native = EventSource;"
        " window.EventSource = class extends Native { constructor(url) { super(url); window.opened = this; } }; }"
    )
    job = page.locator("#job")
    job.get_by_role("button").click()
    expect(job.locator("output")).to_contain_text(re.compile(r"(\d+) of \1 files, [1-9][0-9.,]+ lines"))
    expect(job.get_by_role("button")).to_be_enabled()
    assert page.evaluate("opened.readyState") == 2, "closed: it would come back"
    expect(job.get_by_role("button")).to_be_focused()


def test_the_raw_page_shows_the_bytes_and_what_became_of_them(demo: Demo, visit: Visit) -> None:
    page = visit.open(f"{demo.address}/raw/")
    raw, received = page.locator("#raw"), page.locator("#received li")
    expect(raw).to_contain_text(re.compile(r"retry: \d+\n\nid: \d+\n\n"), use_inner_text=True)
    samples = {
        "Plain": ("message", '{"n":1,"ok":true}', r'\nid: \d+\ndata: {"n":1,"ok":true}\n\n'),
        "Named": ("note", '{"by":"Ada"}', r'\nid: \d+\nevent: note\ndata: {"by":"Ada"}\n\n'),
        "Many lines": (
            "message",
            "<p>\n  Roses,\n\n  violets\n</p>",
            r"\nid: \d+\ndata: <p>\ndata:   Roses,\ndata: \ndata:   violets\ndata: </p>\n\n",
        ),
        "Ephemeral": ("note", '{"typing":"Grace"}', r'\n\nevent: note\ndata: {"typing":"Grace"}\n\n'),
        "Odd characters": (
            "message",
            '   three spaces, "quotes", it\'s </script><b>not bold</b>, \N{SATELLITE} é ß 漢, [\u2028]',
            r"\nid: \d+\ndata:    three spaces, \"quotes\", it's </script><b>not bold</b>",
        ),
    }
    for count, (button, (event_type, data, wire)) in enumerate(samples.items(), start=1):
        page.get_by_role("button", name=button, exact=True).click()
        expect(received).to_have_count(count)
        expect(received.last).to_have_attribute("data-type", event_type)
        assert received.last.locator("pre").text_content() == data
        expect(raw).to_contain_text(re.compile(wire), use_inner_text=True)
    assert page.locator("#received b, #raw b").count() == 0


@pytest.mark.parametrize("path", PAGES)
def test_the_policy_is_strict_and_holds(demo: Demo, browser: Browser, path: str) -> None:
    with urllib.request.urlopen(demo.address + path) as response:
        policy = response.headers["Content-Security-Policy"]
        page = response.read().decode()
    assert policy.startswith("default-src 'none'; script-src 'self' 'nonce-")
    assert "unsafe" not in policy
    assert re.search(r"\s(style|on\w+)=", page) is None
    with urllib.request.urlopen(demo.address + path) as response:
        assert response.headers["Content-Security-Policy"] != policy  # a nonce is used once

    # That the other tests' "no complaint" means something: what breaks the policy is refused and heard.
    with _visit(browser) as visit:
        window = visit.open(demo.address + path)
        with window.expect_console_message(lambda message: message.type == "error"):
            window.evaluate(
                """() => {
                    const script = document.createElement("script");
                    script.textContent = "window.intruder = true";
                    document.body.append(script);
                }"""
            )
        assert window.evaluate("() => window.intruder") is None
        assert any(complaint.startswith("policy: script-src") for complaint in visit.complaints)


def test_the_admin_works_under_the_same_policy(demo: Demo, browser: Browser) -> None:
    subprocess.run(
        [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username=boss", "--email=boss@example.org"],
        cwd=ROOT,
        env={
            **_environment(demo.database, demo.port),
            "DJANGO_SETTINGS_MODULE": "demo_project.settings",
            "DJANGO_SUPERUSER_PASSWORD": "of the boss",
        },
        check=True,
    )
    with urllib.request.urlopen(f"{demo.address}/admin/login/") as response:
        assert response.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self' 'nonce-")
    with _visit(browser) as visit:
        page = visit.open(f"{demo.address}/admin/")
        page.fill("#id_username", "boss")
        page.fill("#id_password", "of the boss")
        page.click("[type=submit]")
        expect(page.locator("#user-tools")).to_be_visible()
        for path in ("auth/user/", "auth/user/add/", "auth/user/1/change/", "django_sse/event/"):
            page.goto(f"{demo.address}/admin/{path}")
            expect(page.locator("#user-tools")).to_be_visible()
        page.locator("#result_list a").first.click()
        expect(page.locator("#user-tools")).to_be_visible()
        assert visit.complaints == []


CHANGES = [
    "/notification/",
    "/alert/",
    "/orders/create/",
    "/orders/1/advance/",
    "/orders/1/delete/",
    "/raw/status/",
    "/reconnect/run/publish/",
    "/versus/run/publish/",
    "/ask/begin/",
    "/ask/1/stop/",
]


def test_another_site_cannot_have_anything_changed(demo: Demo) -> None:
    """Without the token that only our own pages have."""
    views = ROOT.glob("demo_project/*/views.py")
    assert sum(file.read_text().count("@require_POST\n") for file in views) == len(CHANGES), "a new one is missing here"
    for path in CHANGES:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(demo.address + path, data=b"text=forged")
        with refused.value as answer:
            assert answer.status == 403, path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", PAGES)
def test_no_page_is_wider_than_a_phone(demo: Demo, browser: Browser, path: str, scheme: str) -> None:
    with _visit(browser, width=360, scheme=scheme) as visit:
        page = visit.open(demo.address + path)
        if path == "/":
            page.fill("#title", "Unbreakable" * 12)
            page.get_by_role("button", name="Send").click()
            expect(page.locator("#list li").first).to_contain_text("UnbreakableUnbreakable")
            expect(page.locator('[data-series="cpu"] path.curve')).to_have_count(1)
        if path == "/reconnect/":
            page.click("#live")
            expect(page.locator("#verdict")).to_have_attribute("data-verdict", "complete")
        if path == "/raw/":
            page.get_by_role("button", name="Odd characters").click()
            expect(page.locator("#received li")).to_have_count(1)
        width, room = page.evaluate(
            "() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        assert width <= room == 360
        assert visit.complaints == []


@pytest.mark.parametrize("path", PAGES)
def test_roles_are_where_they_may_be_and_no_figures_are_read_out_for_ever(demo: Demo, visit: Visit, path: str) -> None:
    page = visit.open(demo.address + path)
    expect(page.locator('output:not([aria-live="off"])')).to_have_count(0)
    expect(page.locator("dl[role]")).to_have_count(0)
    expect(page.locator(":is(p, pre)[aria-label]:not([role])")).to_have_count(0)


def test_the_keyboard_reaches_the_content(demo: Demo, visit: Visit) -> None:
    page = visit.open(f"{demo.address}/orders/")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Place an order")).to_be_focused()


def test_without_script_the_forms_still_work(demo: Demo, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{demo.address}/orders/")
    before = page.locator(".order").count()
    page.get_by_role("button", name="Place an order").click()
    expect(page.locator(".order")).to_have_count(before + 1)
    context.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_where_and_ends_with_streams_open(
    browser: Browser, tmp_path: Path, number: signal.Signals
) -> None:
    with _serve(tmp_path) as (demo, process, output), _visit(browser) as visit:
        page = visit.open(demo.address)
        expect(page.locator("#pulse")).to_have_attribute("data-state", "live")
        process.send_signal(number)
        assert process.wait(PATIENCE) == 0
        expect(page.locator("#pulse")).to_have_attribute("data-state", "waiting")
    said = output.read_text()
    assert f"{demo.address}/\n" in said
    assert f"{demo.address}/admin/\n" in said
    assert "admin, password admin" in said
    assert "Traceback" not in said


def test_a_taken_port_is_named_with_the_way_out(demo: Demo, tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "manage.py", "demo"],
        cwd=ROOT,
        env=_environment(tmp_path / "second.sqlite3", demo.port),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert answer.returncode == 1
    assert f"Port {demo.port} is taken" in answer.stderr
    assert f"PORT={demo.port + 1}" in answer.stderr
    assert not (tmp_path / "second.sqlite3").exists()
