"""The orders page: its view in a process of its own, which needs the demo's settings, and a real browser."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.demo.script import run
from tests.demo.test_demo import browser as browser
from tests.demo.test_demo import demo as demo
from tests.demo.test_demo import visit as visit

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Route

    from tests.demo.test_demo import Demo, Visit

SCRIPT = """
import re

from django.db import connection
from django.test import Client

from demo_project.orders import samples
from demo_project.orders.models import Order
from django_sse import log

samples.place()
late = []


def place_after_the_query(execute, sql, params, many, context):
    answer = execute(sql, params, many, context)
    if sql.startswith("SELECT") and "orders_order" in sql and not late:
        late.append(None)
        late[0] = samples.place()
    return answer


with connection.execute_wrapper(place_after_the_query):
    page = Client(headers={"host": "localhost"}).get("/orders/").content.decode()
since = int(re.search(r"since=(\\d+)", page)[1])
missed = log.after(since, ["public.orders"], 10)
assert f'data-order="{late[0].pk}"' not in page, "the order must come too late for the page"
assert [f'"id":{late[0].pk},' in event.data for event in missed] == [True], (since, missed)
print("reached")
"""


def test_an_order_saved_after_the_query_follows_the_cursor_of_the_page(tmp_path: Path) -> None:
    assert run(SCRIPT, tmp_path) == "reached\n"


def placed(demo: Demo, count: int) -> None:
    """Put in ``count`` placed orders, of which no page is told."""
    with closing(sqlite3.connect(demo.database, timeout=20)) as database, database:
        database.executemany(
            "INSERT INTO orders_order (customer, item, quantity, total, state) VALUES (?, 'Lamp', 1, 5, 'placed')",
            [[f"Customer {number}"] for number in range(count)],
        )


def counts(page: Page) -> dict[str, int]:
    texts = page.locator("[data-tally]").all_text_contents()
    return {state: int(count) for count, state in map(str.split, texts)}


def test_an_older_order_than_the_page_shows_is_counted_and_nothing_else(demo: Demo, visit: Visit) -> None:
    old = visit.open(f"{demo.address}/orders/")
    placed(demo, 45)
    page = visit.open(f"{demo.address}/orders/")
    expect(page.locator(".order")).to_have_count(40)
    before = counts(page)
    assert before["placed"] == 46
    old.locator('[data-order="6"] .advance button').click()
    expect(page.locator('[data-tally="placed"] .count')).to_have_text("45")
    assert counts(page) == {**before, "placed": 45, "paid": before["paid"] + 1}
    expect(page.locator(".order")).to_have_count(40)
    expect(page.locator("#news")).to_have_text("")

    page.get_by_role("button", name="Place an order").click()
    expect(page.locator(".order")).to_have_count(41)
    assert counts(page)["placed"] == 46
    page.locator(".order").first.locator(".delete button").click()
    expect(page.locator(".order")).to_have_count(40)
    assert counts(page)["placed"] == 45
    page.reload()
    assert counts(page)["placed"] == 45


def test_without_script_the_counts_are_there(demo: Demo, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{demo.address}/orders/")
    total = sum(counts(page).values())
    assert 0 < page.locator(".order").count() <= total
    page.get_by_role("button", name="Place an order").click()
    expect(page.locator(".order").first).to_have_attribute("data-state", "placed")
    assert sum(counts(page).values()) == total + 1
    context.close()


def test_a_reset_loads_the_page_anew(demo: Demo, visit: Visit) -> None:
    page = visit.context.new_page()
    held: list[Route] = []
    page.route("**/events/**", lambda route: held.append(route), times=1)
    page.goto(f"{demo.address}/orders/")
    expect(page.locator("[data-source]")).to_contain_text("sse.reset")
    page.evaluate("() => { window.before = true; }")
    (route,) = held
    reset = 'id: 1\nevent: sse.reset\ndata: {"reason":"expired","id":1}\n\n'
    route.fulfill(content_type="text/event-stream", body=reset)
    page.wait_for_function("() => !window.before")


def test_the_focus_stays_in_a_row_whose_button_goes(demo: Demo, visit: Visit) -> None:
    page = visit.open(f"{demo.address}/orders/")
    page.get_by_role("button", name="Place an order").click()
    expect(page.locator(".order[data-fresh]")).to_have_count(1)
    number = page.locator(".order").first.get_attribute("data-order")
    row = page.locator(f'[data-order="{number}"]')
    for state in ("paid", "packed", "shipped", "delivered"):
        row.locator(".advance button").press("Enter")
        expect(row).to_have_attribute("data-state", state)
    expect(row.locator(".advance")).to_be_hidden()
    expect(row.locator(".edit")).to_be_focused()
