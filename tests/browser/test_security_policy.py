"""The tag under a Content-Security-Policy that allows nothing but its nonce."""

from __future__ import annotations

from typing import TYPE_CHECKING

import django
import pytest

if TYPE_CHECKING:
    from tests.browser.conftest import Tab
    from tests.browser.server import Server


PAGES = [
    pytest.param({"csp": "request"}, "", id="of the request"),
    pytest.param({"csp": "argument"}, "nonce=request.page_nonce", id="as an argument"),
    pytest.param({"path": "/csp/package/"}, "", id="of django-csp"),
    pytest.param({"path": "/csp/package/"}, "nonce=request.csp_nonce", id="of django-csp as an argument"),
]
if django.VERSION >= (6, 0):
    PAGES += [
        pytest.param({"path": "/csp/django/"}, "", id="of Django"),
        pytest.param({"path": "/csp/django/"}, "nonce=csp_nonce", id="of Django as an argument"),
    ]


@pytest.mark.parametrize(("query", "argument"), PAGES)
def test_no_violation(server: Server, tab: Tab, channel: str, query: dict[str, str], argument: str) -> None:
    answer = tab.open(f'{{% event_source "{channel}" handler="updateUI" {argument} %}}', **query)
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    tab.until("wire.opened || wire.violations.length")
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
