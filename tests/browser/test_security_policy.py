"""The tag under a Content-Security-Policy that allows nothing but its nonce."""

from __future__ import annotations

from typing import TYPE_CHECKING

import django
import pytest

if TYPE_CHECKING:
    from tests.browser.conftest import Tab
    from tests.browser.server import Server


PAGES = {
    "of the request": ({"csp": "request"}, ""),
    "as an argument": ({"csp": "argument"}, "nonce=request.page_nonce"),
}
if django.VERSION >= (6, 0):
    PAGES["of Django"] = ({"path": "/django-csp/"}, "")


@pytest.mark.parametrize(("query", "argument"), PAGES.values(), ids=PAGES)
def test_no_violation(server: Server, tab: Tab, channel: str, query: dict[str, str], argument: str) -> None:
    answer = tab.open(f'{{% event_source "{channel}" handler="updateUI" {argument} %}}', **query)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    tab.until("wire.opened")
    server.publish({"channel": channel, "data": "under a policy"})
    assert tab.calls(1) == [["updateUI", "under a policy"]]
    assert tab.value("wire.violations") == []
    assert tab.console == []


def test_without_its_nonce_the_script_is_stopped(server: Server, tab: Tab, channel: str) -> None:
    """Were the policy not in force, the test above would prove nothing."""
    tab.open(f'{{% event_source "{channel}" handler="updateUI" %}}', csp="argument")
    tab.until("wire.violations.length")
    assert tab.value("wire.sources.length") == 0
    assert any("Content Security Policy" in text for text in tab.console)
    assert server.requests(channel) == []
