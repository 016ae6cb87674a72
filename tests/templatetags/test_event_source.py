from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.template import Context, Template, TemplateSyntaxError

from django_sse import send_event
from django_sse.script import event_source, parse_handlers

pytestmark = pytest.mark.django_db


def render(arguments: str, **context: Any) -> str:
    return Template("{% load django_sse %}{% event_source " + arguments + " %}").render(Context(context))


def test_three_statements() -> None:
    assert render('"orders" handler="updateUI" since=41') == (
        '<script type="module">\n'
        'const source = new EventSource("/events/?channel=orders&since=41");\n'
        "source.onmessage = (event) => { const data = JSON.parse(event.data); updateUI(data); };\n"
        'source.onerror = () => { console.log("Reconnecting..."); };\n'
        "</script>"
    )


def test_robust_is_the_same_with_a_client() -> None:
    html = render('"orders" events="message status:bell.add" handler="updateUI" since=41 robust=True nonce="abc"')
    assert html == (
        '<script type="module" nonce="abc">\n'
        'import { RobustEventSource } from "/static/django_sse/client.js";\n'
        'const source = new RobustEventSource("/events/?channel=orders&since=41");\n'
        "source.onmessage = (event) => { const data = JSON.parse(event.data); updateUI(data); };\n"
        'source.addEventListener("status", (event) => { const data = JSON.parse(event.data); bell.add(data); });\n'
        "</script>"
    )


def test_the_client_is_where_static_files_are(settings: Any) -> None:
    settings.STATIC_URL = "https://cdn.example/</script>/"
    assert 'from "https://cdn.example/\\u003c/script\\u003e/django_sse/client.js"' in render(
        '"orders" handler="f" robust=True'
    )
    assert finders.find("django_sse/client.js")


def test_since_is_the_head_when_the_page_is_rendered() -> None:
    assert "since=0" in render('"orders" handler="f"')
    send_event("orders", None, 1)
    from django_sse.sequencer import sequence

    sequence()  # a test's transaction does not commit
    assert "since=1" in render('"orders" handler="f"')


def test_several_channels_from_variables() -> None:
    html = render("mine theirs handler='f' since=0", mine="user.7", theirs="public.news")
    assert "/events/?channel=user.7&channel=public.news&since=0" in html


def test_a_handler_for_each_type() -> None:
    html = render('"a" events="notification:bell.add metric message" handler="$update"')
    assert (
        'source.addEventListener("notification", (event) => { const data = JSON.parse(event.data); bell.add(data); });'
    ) in html
    assert (
        'source.addEventListener("metric", (event) => { const data = JSON.parse(event.data); $update(data); });' in html
    )
    assert "source.onmessage = (event) => { const data = JSON.parse(event.data); $update(data); };" in html


def test_text_is_handed_over_as_it_is() -> None:
    assert "source.onmessage = (event) => { swap(event.data); };" in render('"a" handler="swap" text=True')


def test_last_and_an_address_of_ones_own() -> None:
    html = render('url="/live/?team=7" handler="f" last=60 since=5')
    assert 'new EventSource("/live/?team=7&since=5&last=60")' in html


@pytest.mark.parametrize(
    ("arguments", "context"),
    [
        ("", {"csp_nonce": "abc123"}),
        ("", {"request": SimpleNamespace(csp_nonce="abc123")}),
        ("nonce='abc123'", {"csp_nonce": "other"}),
    ],
)
def test_the_nonce_is_the_pages(arguments: str, context: dict[str, Any]) -> None:
    assert '<script type="module" nonce="abc123">' in render(f'"a" handler="f" {arguments}', **context)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ('handler="f"', "needs a channel"),
        ('"no spaces" handler="f"', "not a channel name"),
        ('"a"', 'The event type "message" has no handler'),
        ('"a" events="metric"', 'The event type "metric" has no handler'),
        ('"a" handler="alert(1)"', "not the name of a JavaScript function"),
        ('"a" handler="data"', "the script's own 'data'"),
        ('"a" events="metric:source.close"', "the script's own 'source'"),
        ('"a" handler="RobustEventSource"', "the script's own 'RobustEventSource'"),
        ('"a" handler="f;g"', "not the name of a JavaScript function"),
        ('"a" handler="a..b"', "not the name of a JavaScript function"),
        ('"a" events="metric:</script>"', "not the name of a JavaScript function"),
        ('"a" handler="\uff46"', "not the name of a JavaScript function"),
    ],
)
def test_a_wrong_argument_says_what_is_right(arguments: str, complaint: str) -> None:
    with pytest.raises(TemplateSyntaxError, match=re.escape(complaint)):
        render(arguments)


HOSTILE = ["</script><script>alert(1)</script>", "'\"\\", "\u2028\u2029", "<!--", "]]>", "`${alert(1)}`", "\n\r\t\x00"]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_gets_out_of_its_string(text: str) -> None:
    html = render("url=url handler='f' nonce=nonce since=0", url=f"/{text}", nonce=text)
    opening, _, script = html.removesuffix("</script>").partition(">\n")
    assert opening.count("<") == 1
    assert opening.count('"') == 4
    assert not set("<\u2028\u2029\r\t\x00") & set(script)
    assert len(script.splitlines()) == 3
    address = re.search(r'new EventSource\((".*")\);', script)
    assert address
    assert json.loads(address[1]) == f"/{text}?since=0"


def test_types_and_addresses_are_javascript_strings() -> None:
    html = event_source("/</script>", [("channel", "a")], parse_handlers('it"s:f', None), nonce='"><x')
    assert '"/\\u003c/script\\u003e?channel=a"' in html
    assert 'addEventListener("it\\"s"' in html
    assert 'nonce="&quot;&gt;&lt;x"' in html
