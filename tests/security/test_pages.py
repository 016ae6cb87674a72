"""Pages: nothing that was published becomes markup, and nothing needs a loose Content-Security-Policy."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.chromium import chromium
from tests.security.conftest import SETTINGS
from tests.security.policy import POLICY
from tests.server import serve, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.live.database import Database
    from tests.server import Server

ROOT = Path(__file__).parent.parent.parent
VECTORS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'\"></a><svg onload=alert(1)>",
    "</pre></td><iframe srcdoc='<script>parent.alert(1)</script>'>",
    "<style>*{background:url(//evil.example)}</style>",
    "<base href=//evil.example/>",
    "{{ 7|add:7 }}{% debug %}",
    "javascript:alert(1)",
    "\u202e\u2066<b>x</b>",
]
SINKS = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|srcdoc|\beval\b|new Function|setHTML|"
    r"createContextualFragment|DOMParser|setTimeout\(\s*[\"'`]|\.html\(|\|\s*safe\b|mark_safe|autoescape off"
)
SHIPPED = sorted(
    path
    for folder in ("django_sse", "demo_project", "static", "templates")
    for ending in ("js", "html", "py")
    for path in (ROOT / folder).rglob(f"*.{ending}")
)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_makes_markup_of_a_text(path: Path) -> None:
    found = [line.strip() for line in path.read_text().splitlines() if SINKS.search(line)]
    if path.name == "script.py":  # the text of the tag's script, in which every value was escaped for a script
        found = [line for line in found if "mark_safe" not in line]
    assert found == []


@pytest.fixture(scope="module")
def server(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {**database.env, "STRICT_PAGES": "1"}
    with serve("uvicorn", SETTINGS, tmp_path_factory.mktemp("pages") / "server.log", env) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    context = browser.new_context()
    complaints: list[str] = []
    context.on("weberror", lambda error: complaints.append(f"uncaught: {error.error}"))
    context.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    context.expose_function("complain", lambda text: complaints.append(text))
    context.add_init_script(
        'addEventListener("securitypolicyviolation", (one) => complain(`${one.violatedDirective} ${one.sample}`));'
    )
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{server.port}/boss/")
    page.complaints = complaints  # type: ignore[attr-defined]
    yield page
    context.close()


OURS = "connect-src "


def complaints(page: Page, number: int) -> list[str]:
    """Wait for so many complaints, and return all that came."""

    def heard() -> bool:
        page.evaluate("() => 1")  # what the browser tells is taken in only while it is asked something
        return len(page.complaints) >= number  # type: ignore[attr-defined, no-any-return]

    wait_for(heard, f"{number} complaints", 30)
    return page.complaints  # type: ignore[attr-defined, no-any-return]


@pytest.fixture
def stored(database: Database) -> list[int]:
    """Rows whose every text is hostile, as SQL can write them."""
    with closing(database.connect()) as connection:
        for number, vector in enumerate(VECTORS):
            connection.execute(
                "INSERT INTO django_sse_event (channel, type, data, key, created_at) VALUES (?, ?, ?, ?, datetime())",
                (f"{vector}"[:100], vector[:100], json.dumps({vector: vector}), f"{number} {vector}"[:200]),
            )
        connection.commit()
        rows: Any = connection.execute("SELECT id FROM django_sse_event WHERE key IS NOT NULL ORDER BY id").fetchall()
    return [row[0] for row in rows][-len(VECTORS) :]


def test_the_admin_under_a_strict_policy(server: Server, page: Page, stored: list[int]) -> None:
    origin = f"http://127.0.0.1:{server.port}/admin/django_sse/event/"
    addresses = [
        origin,
        *(f"{origin}{pk}/change/" for pk in stored),
        f"{origin}?q=alert",
        f"{origin}?type=%3Cscript%3E",
    ]
    for address in addresses:
        answer = page.goto(address)
        assert answer
        assert (answer.status, answer.headers["content-security-policy"]) == (200, POLICY)
        assert (
            page.locator("#content svg[onload], #content iframe, #content img[src=x], base, #content style").count()
            == 0
        )
        assert (
            page.locator("script").evaluate_all("all => all.filter(one => /alert/.test(one.textContent)).length") == 0
        )
    page.goto(f"{origin}{stored[0]}/change/?at=0&channels=user.7")
    page.goto(origin)
    assert page.locator("#result_list").inner_text().count("alert(1)") > 3, "the vectors are there, as text"
    # What is complained of is told in its order: after this one of our own nothing is on its way any more.
    page.evaluate("() => fetch('http://elsewhere.example/').catch(() => null)")
    assert complaints(page, 1) == [OURS]


def test_were_the_policy_not_in_force_the_test_above_would_prove_nothing(server: Server, page: Page) -> None:
    page.goto(f"http://127.0.0.1:{server.port}/admin/django_sse/event/")
    page.evaluate("() => { const one = document.createElement('script'); one.append('x'); document.body.append(one); }")
    assert complaints(page, 1) == ["script-src-elem "]
