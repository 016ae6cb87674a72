"""What the sampler tells, without the two seconds between its samples, and what the page makes of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from playwright.sync_api import expect

from tests.demo.script import run
from tests.demo.test_demo import browser as browser
from tests.demo.test_demo import demo as demo
from tests.demo.test_demo import visit as visit

if TYPE_CHECKING:
    from pathlib import Path

    from tests.demo.test_demo import Demo, Visit

SCRIPT = """
import json

from demo_project.dashboard import health
from demo_project.dashboard.channel import DASHBOARD
from demo_project.dashboard.sampler import Sampler
from django_sse.models import Event

health.disk_percent = lambda: 97.0
sampler = Sampler()
for count in range(220):
    sampler._once(count)
recent = Event.objects.filter(channel=DASHBOARD).order_by("-pk")[:200]
alerts = [json.loads(event.data) for event in recent if event.type == "alert"]
print(json.dumps([alert for alert in alerts if alert["name"] == "disk"]))
"""


def test_the_last_200_events_have_an_alert_that_was_raised_long_ago(tmp_path: Path) -> None:
    alerts = json.loads(run(SCRIPT, tmp_path))
    assert 1 <= len(alerts) <= 4, alerts
    assert {alert["raised"] for alert in alerts} == {True}


def test_an_alert_told_again_stays_as_it_is(demo: Demo, visit: Visit) -> None:
    page = visit.open(demo.address)
    expect(page.locator("#calm")).to_have_text("No alert is raised, by the events of the last minutes.")
    alert = {"name": "test", "level": "warning", "text": "Of the test: 1", "raised": True, "at": "2026-01-01T00:00Z"}
    page.evaluate("(alert) => banner.show(alert)", alert)
    first = page.locator('[data-alert="test"]').element_handle()
    page.evaluate("(alert) => banner.show(alert)", alert)
    assert first.evaluate("(element) => element.isConnected"), "or a screen reader says it again"
    page.evaluate("(alert) => banner.show(alert)", {**alert, "text": "Of the test: 2"})
    expect(page.locator('[data-alert="test"]')).to_contain_text("Of the test: 2")
    page.evaluate("(alert) => banner.show(alert)", {**alert, "raised": False})
    expect(page.locator('[data-alert="test"]')).to_have_count(0)
