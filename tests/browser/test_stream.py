"""What the browser does by itself: it reconnects, and nothing is lost or shown twice."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import pytest

from tests.wire.cases import BODIES, PUBLISHED

if TYPE_CHECKING:
    from playwright.sync_api import Route

    from tests.browser.conftest import Tab
    from tests.browser.proxy import Proxy
    from tests.browser.server import Server

TAG = '{{% event_source "{}" handler="updateUI" %}}'


def numbered(channel: str, *numbers: int) -> list[dict[str, Any]]:
    return [{"channel": channel, "data": number} for number in numbers]


def test_published_between_rendering_and_connecting(server: Server, tab: Tab, channel: str) -> None:
    held: list[Route] = []
    tab.page.route("**/events/**", lambda route: held.append(route))
    server.publish(*numbered(channel, 0))
    with tab.page.expect_request("**/events/**"):
        tab.open(TAG.format(channel))
    server.publish(*numbered(channel, 1, 2))
    tab.until("wire.sources.length")
    assert tab.value("wire.opened") == 0
    held[0].continue_()
    assert tab.calls(2) == [["updateUI", 1], ["updateUI", 2]]
    server.publish(*numbered(channel, 3))
    assert tab.calls(3)[2:] == [["updateUI", 3]]


def test_a_cut_connection_comes_back_with_its_id(server: Server, tab: Tab, proxy: Proxy, channel: str) -> None:
    tab.listen(TAG.format(channel))
    (_, last) = server.publish(*numbered(channel, 1, 2))
    tab.calls(2)
    proxy.refuse = True
    proxy.cut()
    missed = server.publish(*numbered(channel, 3, 4, 5))
    tab.until("wire.sources[0].readyState == EventSource.CONNECTING")
    proxy.refuse = False
    assert tab.calls(5) == [["updateUI", number] for number in (1, 2, 3, 4, 5)]
    (after,) = server.publish(*numbered(channel, 6))
    events = tab.events(6)
    assert [event[1] for event in events] == ["1", "2", "3", "4", "5", "6"]
    assert [event[2] for event in events][2:] == [str(position) for position in [*missed, after]]
    first, second = server.requests(channel)
    assert first["last_event_id"] is None
    assert second["last_event_id"] == str(last)
    assert first["since"] == second["since"], "the URL is the same, and the id wins over its since"
    assert tab.value("wire.sources.length") == 1


def test_a_stream_that_ended_comes_back_with_its_id(server: Server, tab: Tab, channel: str) -> None:
    tab.listen(TAG.format(channel))
    (last,) = server.publish(*numbered(channel, 1))
    tab.calls(1)
    server.end_and_publish(channel, *numbered(channel, 2, 3))
    tab.calls(3)
    server.publish(*numbered(channel, 4))
    assert tab.calls(4) == [["updateUI", number] for number in (1, 2, 3, 4)]
    assert [request["last_event_id"] for request in server.requests(channel)] == [None, str(last)]
    assert tab.console == ["Reconnecting..."]


def test_a_frame_cut_in_the_middle_is_shown_whole(server: Server, tab: Tab, proxy: Proxy, channel: str) -> None:
    tab.listen(TAG.format(channel))
    (last,) = server.publish({"channel": channel, "data": "first"})
    tab.calls(1)
    proxy.cut_after(b'data: "half')
    server.publish({"channel": channel, "data": "half and half"}, {"channel": channel, "data": "next"})
    tab.calls(3)
    server.publish({"channel": channel, "data": "end"})
    assert tab.calls(4) == [["updateUI", data] for data in ("first", "half and half", "next", "end")]
    assert [request["last_event_id"] for request in server.requests(channel)] == [None, str(last)]


def passing(server: Server, channel: str) -> None:
    """Send an event that has no id of its own: the page then shows the last one that it holds.

    Seen, it also proves that the browser has read everything before it: what a cut connection had delivered, but
    nobody had read, is dropped.
    """
    server.publish({"channel": channel, "data": "passing", "store": False})


def test_a_quiet_stream_moves_its_id_without_an_event(server: Server, tab: Tab, proxy: Proxy, channel: str) -> None:
    tab.listen(TAG.format(channel))
    *_, head = server.publish(*numbered(f"{channel}.others", 1, 2, 3))
    proxy.wait_for(b"id: %d\n\n" % head)  # by the heartbeat: none of these events is for this page
    passing(server, channel)
    assert tab.events(1) == [["message", '"passing"', str(head)]]
    proxy.refuse = True
    proxy.cut()
    server.publish(*numbered(channel, 1))
    proxy.refuse = False
    assert tab.events(2)[1:] == [["message", "1", str(head + 1)]]
    assert [request["last_event_id"] for request in server.requests(channel)] == [None, str(head)]


def test_the_first_id_comes_with_the_opening(server: Server, tab: Tab, proxy: Proxy, channel: str) -> None:
    """A page that is cut before its first event knows where it was."""
    (head,) = server.publish(*numbered(channel, 0))
    tab.listen(TAG.format(channel))
    proxy.wait_for(b"\n\nid: %d\n\n" % head)  # in one chunk with the reconnection time: a heartbeat has its own
    passing(server, channel)
    assert tab.events(1) == [["message", '"passing"', str(head)]]
    server.end_and_publish(channel, *numbered(channel, 1))
    assert tab.events(2)[1:] == [["message", "1", str(head + 1)]]
    assert [request["last_event_id"] for request in server.requests(channel)] == [None, str(head)]


@pytest.mark.parametrize(("since", "reason"), [("999999999", "ahead"), ("'x'", "malformed"), ("'-1'", "malformed")])
def test_an_id_that_cannot_be_served_is_reset(server: Server, tab: Tab, channel: str, since: str, reason: str) -> None:
    (head,) = server.publish(*numbered(channel, 0))
    tab.listen(f'{{% event_source "{channel}" events="message sse.reset:onStatus" handler="updateUI" since={since} %}}')
    assert tab.calls(1) == [["onStatus", {"reason": reason, "id": head}]]
    (position,) = server.publish(*numbered(channel, 1))
    assert tab.events(2) == [
        ["sse.reset", f'{{"reason":"{reason}","id":{head}}}', str(head)],
        ["message", "1", str(position)],
    ]


def test_an_id_ahead_of_the_log_is_reset_after_a_reconnect(
    server: Server, tab: Tab, proxy: Proxy, channel: str
) -> None:
    """The log was restored from an older backup while the browser was away."""
    body = urlsafe_b64encode(b"retry: 100\nid: 999999999\n\n").decode()
    tab.page.route("**/events/**", lambda route: route.continue_(url=f"{tab.origin}/raw/{body}/"), times=1)
    tab.listen(f'{{% event_source "{channel}" events="message sse.reset" handler="updateUI" %}}')
    ((kind, data, last),) = tab.events(1)
    assert kind == "sse.reset"
    assert f'"reason":"ahead","id":{last}' in data
    (position,) = server.publish(*numbered(channel, 1))
    assert tab.events(2)[1] == ["message", "1", str(position)]
    assert [request["last_event_id"] for request in server.requests(channel)] == ["999999999"]


def test_bodies(tab: Tab) -> None:
    tab.open("")
    for case in BODIES:
        url = f"/raw/{urlsafe_b64encode(case.body).decode()}/"
        assert tab.page.evaluate("(url) => wire.read(url)", url) == [list(event) for event in case.events], case.name


def test_published(server: Server, tab: Tab, channel: str) -> None:
    names = " ".join({case.type for case in PUBLISHED if case.type and case.type.split() == [case.type]})
    tab.listen(f'{{% event_source "{channel}" events="message {names}" handler="updateUI" text=True %}}')
    tab.page.evaluate("() => wire.sources[0].addEventListener(' test', () => {})")  # events="" has no such names
    server.publish(*({"channel": channel, "event_type": case.type, "text": case.text} for case in PUBLISHED))
    for case, event in zip(PUBLISHED, tab.events(len(PUBLISHED)), strict=True):
        assert event[:2] == list(case.seen), case.wpt
