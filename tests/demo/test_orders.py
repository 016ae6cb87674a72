"""The view of the orders page, in a process of its own: it needs the demo's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import re

import django
from django.core.management import call_command

django.setup()
call_command("migrate", verbosity=0)

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
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "demo_project.settings",
            "DEMO_DATABASE": str(tmp_path / "demo.sqlite3"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "reached\n"
