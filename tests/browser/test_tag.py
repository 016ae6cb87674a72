"""The template tag in a real browser, behind the middleware that is said to break streams."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import pytest

from tests.wire.cases import AWKWARD
from tests.wire.parsers import lines_to_lf

if TYPE_CHECKING:
    from tests.browser.conftest import Tab
    from tests.browser.server import Server


def test_the_page_of_the_documentation(server: Server, tab: Tab) -> None:
    (since,) = server.publish({"channel": "public.orders", "data": {"id": 0, "state": "before the page"}})
    page = tab.page.goto(f"{tab.origin}/orders/")
    script = re.findall(r'<script type="module">\n(.*?)\n</script>', page.text(), re.DOTALL)
    assert [text.replace(r"\u0026", "&").split("\n") for text in script] == [
        [
            f'const source = new EventSource("/events/?channel=public.orders&since={since}");',
            "source.onmessage = (event) => { const data = JSON.parse(event.data); updateUI(data); };",
            'source.onerror = () => { console.log("Reconnecting..."); };',
        ]
    ]
    server.publish(*({"channel": "public.orders", "data": {"id": id, "state": "new"}} for id in (7, 8, 9)))
    tab.until("document.querySelectorAll('li').length >= 3")
    assert tab.page.locator("li").all_inner_texts() == ["7 new", "8 new", "9 new"]


def test_three_events_through_compressing_and_conditional_middleware(server: Server, tab: Tab, channel: str) -> None:
    answers: dict[str, Any] = {}
    tab.page.on("response", lambda response: answers.update({response.url.split("?")[0]: response}))
    tab.listen(f'{{% event_source "{channel}" handler="updateUI" %}}')
    for number in (1, 2, 3):
        server.publish({"channel": channel, "data": {"number": number}})
        # Each arrives before the next is published: nobody on the way collects them.
        assert tab.calls(number)[-1] == ["updateUI", {"number": number}]
    page, stream = answers[f"{tab.origin}/page/"].headers, answers[f"{tab.origin}/events/"].headers
    assert page["content-encoding"] == "gzip"
    assert "etag" in page
    assert stream["content-type"] == "text/event-stream; charset=utf-8"
    assert stream["content-encoding"] == "identity"
    assert "etag" not in stream
    assert "no-store" in stream["cache-control"]
    (request,) = server.requests(channel)
    assert request["accept"] == "text/event-stream"
    assert "gzip" in request["accept_encoding"]


def test_awkward_texts_arrive(server: Server, tab: Tab, channel: str) -> None:
    tab.listen(f'{{% event_source "{channel}" handler="updateUI" text=True %}}')
    positions = server.publish(*({"channel": channel, "text": text} for text in AWKWARD))
    expected = [lines_to_lf(text) for text in AWKWARD]
    for text, position, event in zip(expected, positions, tab.events(len(AWKWARD)), strict=True):
        assert event == ["message", text, str(position)]
    assert tab.value("calls") == [["updateUI", text] for text in expected]


def test_awkward_values_arrive_as_json(server: Server, tab: Tab, channel: str) -> None:
    tab.listen(f'{{% event_source "{channel}" handler="updateUI" %}}')
    values = [*AWKWARD, {text: text for text in AWKWARD}, None, True, 0, [[]], {"__proto__x": 1}]
    server.publish(*({"channel": channel, "data": value} for value in values))
    for value, call in zip(values, tab.calls(len(values)), strict=True):
        assert call == ["updateUI", value]


def test_each_type_has_its_own_handler(server: Server, tab: Tab, channel: str) -> None:
    tab.listen(f'{{% event_source "{channel}" handler="updateUI" events="message status:onStatus ünï:bell.add x" %}}')
    names = ["status", "ünï", None, "Status", "x", "other", "message"]
    server.publish(*({"channel": channel, "event_type": name, "data": name} for name in names))
    assert tab.calls(5) == [
        ["onStatus", "status"],
        ["bell.add", "ünï"],
        ["updateUI", None],
        ["updateUI", "x"],
        ["updateUI", "message"],
    ]


def test_without_events_only_the_unnamed_are_heard(server: Server, tab: Tab, channel: str) -> None:
    tab.listen(f'{{% event_source "{channel}" handler="updateUI" %}}')
    server.publish(*({"channel": channel, "event_type": name, "data": name} for name in ["status", "x", "message"]))
    assert tab.calls(1) == [["updateUI", "message"]]


def test_two_tags_on_one_page(server: Server, tab: Tab, channel: str) -> None:
    """Each has a ``source`` of its own."""
    other = f"{channel}.other"
    tab.open(f'{{% event_source "{channel}" handler="updateUI" %}}{{% event_source "{other}" handler="bell.add" %}}')
    tab.until("wire.opened == 2")
    server.publish({"channel": other, "data": 1})
    tab.calls(1)
    server.publish({"channel": channel, "data": 2})
    assert tab.calls(2) == [["bell.add", 1], ["updateUI", 2]]


def test_several_channels_in_one_stream(server: Server, tab: Tab, channel: str) -> None:
    tab.listen(f'{{% event_source "{channel}" "{channel}.b" handler="updateUI" %}}')
    server.publish(*({"channel": f"{channel}{end}", "data": end} for end in ["", ".b", ".c", ".b", ""]))
    assert tab.calls(4) == [["updateUI", end] for end in ["", ".b", ".b", ""]]


def test_last_shows_what_was(server: Server, tab: Tab, channel: str) -> None:
    server.publish(*({"channel": channel, "data": number} for number in range(5)))
    tab.listen(f'{{% event_source "{channel}" handler="updateUI" last=2 %}}')
    assert tab.calls(2) == [["updateUI", 3], ["updateUI", 4]]


def test_ephemeral_events_leave_the_last_event_id(server: Server, tab: Tab, channel: str) -> None:
    tab.listen(f'{{% event_source "{channel}" handler="updateUI" events="message typing" %}}')
    (first,) = server.publish({"channel": channel, "data": "stored"})
    tab.events(1)  # a stored event takes the log's way, an ephemeral one the short way
    passing = {"channel": channel, "event_type": "typing", "data": "passing", "store": False}
    assert server.publish(passing) == [None]
    tab.events(2)
    (second,) = server.publish({"channel": channel, "data": "stored too"})
    assert tab.events(3) == [
        ["message", '"stored"', str(first)],
        ["typing", '"passing"', str(first)],
        ["message", '"stored too"', str(second)],
    ]


def test_an_event_of_another_process_arrives(server: Server, tab: Tab, channel: str) -> None:
    """No broker rings across processes here: the hub finds it by the poll."""
    tab.listen(f'{{% event_source "{channel}" handler="updateUI" %}}')
    assert "Published at position" in server.manage("sse_send", channel, "message", '{"from": "afar"}')
    assert tab.calls(1) == [["updateUI", {"from": "afar"}]]


def test_a_refused_channel_ends_it(server: Server, tab: Tab) -> None:
    answers: list[Any] = []
    tab.page.on("response", lambda response: answers.append(response))
    tab.open('{% event_source "secret" handler="updateUI" %}')
    tab.until("wire.sources[0].readyState == EventSource.CLOSED")
    (answer,) = [answer for answer in answers if "/events/" in answer.url]
    assert answer.status == 403
    assert answer.request.redirected_from is None
    assert tab.value("wire.opened") == 0
    assert len(server.requests("secret")) == 1
    assert tab.console[-1] == "Reconnecting..."


HOSTILE_URLS = [
    "/x/</script><script>document.title='owned'</script>",
    "/x/</SCRIPT ><img src=x onerror=document.title='owned'>",
    "/x/\n</script\n>",
    "/x/<!--<script>",
    "/x/]]>-->",
    "/x/\"); document.title='owned'; (\"",
    "/x/'); document.title='owned'; ('",
    "/x/\\\"); document.title='owned'; //",
    "/x/${document.title='owned'}",
    "/x/\u2028document.title='owned'\u2029",
    "/x/&quot;); document.title='owned'; //",
]


def test_a_hostile_url_stays_a_url(tab: Tab) -> None:
    tab.page.route("**/x/**", lambda route: route.fulfill(status=204))
    for hostile in HOSTILE_URLS:
        tab.open('{% event_source url=request.GET.hostile since=1 handler="updateUI" %}', hostile=hostile)
        tab.until("wire.sources.length")
        expected = f"new URL({json.dumps(hostile)} + '?since=1', location).href"
        assert tab.value("wire.sources[0].url") == tab.value(expected)
        check_untouched(tab)


HOSTILE_TYPES = [
    "</script><script>document.title='owned'</script>",
    '"+(document.title=1)+"',
    "\\",
    "a\u2028b",
    "<!--<script>",
    "${1}",
]


def test_a_hostile_type_stays_a_type(server: Server, tab: Tab, channel: str) -> None:
    tab.listen(
        f'{{% event_source "{channel}" events=request.GET.hostile %}}',
        hostile=" ".join(f"{name}:updateUI" for hostile in HOSTILE_TYPES for name in hostile.split()),
    )
    # Whitespace, U+2028 among it, parts the types of events="": a name is what stands between.
    names = [name for hostile in HOSTILE_TYPES for name in hostile.split()]
    server.publish(*({"channel": channel, "event_type": name, "data": name} for name in names))
    assert tab.calls(len(names)) == [["updateUI", name] for name in names]
    check_untouched(tab)


def test_a_hostile_nonce_stays_an_attribute(tab: Tab, channel: str) -> None:
    hostile = "'\"><script>document.title=1</script>"
    tab.listen(f'{{% event_source "{channel}" handler="updateUI" nonce=request.GET.hostile %}}', hostile=hostile)
    assert tab.value("document.querySelector('script').nonce") == hostile
    check_untouched(tab)


def check_untouched(tab: Tab) -> None:
    """The page has its tag's script and its own, nothing that came in through an argument."""
    assert tab.page.title() == "untouched"
    assert tab.page.locator("script").count() == 2
    assert tab.page.locator("img").count() == 0
    assert tab.page.locator("#after").inner_text() == "the page goes on"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('"</script>" handler="f"', ["channel name", "A-Z a-z 0-9 . _ ~ -"]),
        ('"a\u2028" handler="f"', ["channel name"]),
        ('"a" "b c" handler="f"', ["channel name"]),
        ('"" handler="f"', ["channel name"]),
        ('"a" handler="alert(1)"', ["name of a JavaScript function", "updateUI"]),
        ('"a" handler="f;g"', ["name of a JavaScript function"]),
        ('"a" handler="f\u2028"', ["name of a JavaScript function"]),
        ('"a" handler="é"', ["name of a JavaScript function"]),
        ('"a" handler="</script>"', ["name of a JavaScript function"]),
        ('"a" events="x:f(1)"', ["name of a JavaScript function"]),
        ('"a"', ["no handler", 'handler="f"']),
        ('"a" events="x"', ["no handler", 'handler="f"', '"x:f"']),
        ('handler="f"', ["needs a channel", "url="]),
    ],
)
def test_arguments_that_cannot_be_right_are_refused(server: Server, arguments: str, words: list[str]) -> None:
    with pytest.raises(HTTPError) as refusal:
        server.get("/page/", {"tags": f"{{% event_source {arguments} %}}"})
    with refusal.value as answer:
        text = answer.read().decode()
        assert (answer.status, [word for word in words if word not in text]) == (400, []), text
