from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_sse import log, send_event, send_events
from django_sse.models import Event

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments: str) -> tuple[str, str]:
    out, err = StringIO(), StringIO()
    call_command(*arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


class TestSend:
    def test_json(self) -> None:
        assert run("sse_send", "orders", "status", '{"id": 7}') == ("Published at position 1\n", "")
        event = Event.objects.get()
        assert (event.channel, event.type, event.data) == ("orders", "status", '{"id":7}')

    def test_text_and_key(self) -> None:
        for _ in range(2):
            assert run("sse_send", "orders", "message", "<b>", "--text", "--key", "k")[0] == "Published at position 1\n"
        assert Event.objects.get().data == "<b>"

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["orders", "status", "{id: 7}"], "not JSON .* --text"),
            (["no spaces", "status", "1"], "not a channel name"),
            (["orders", "open", "1"], "reserved"),
        ],
    )
    def test_a_mistake_says_what_is_right(self, arguments: list[str], complaint: str) -> None:
        with pytest.raises(CommandError, match=complaint):
            run("sse_send", *arguments)
        assert not Event.objects.exists()


class TestTail:
    def test_it_prints_what_follows(self) -> None:
        send_events([("a", "status", 1), ("b", None, 2), ("a", None, 3)])
        printed, _ = run("sse_tail", "a", "--since", "0", "--count", "2")
        first, second = printed.splitlines()
        assert first.split()[::2] == ["1", "a", "1"]
        assert first.endswith("a status 1")
        assert second.endswith("a message 3")
        assert second.startswith("3 ")

    def test_it_begins_with_what_comes_now_and_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        send_event("a", None, "old")
        waits: list[float] = []

        def publish_meanwhile(seconds: float) -> None:
            waits.append(seconds)
            Event.objects.create(channel="a", data='"nobody numbered it"')

        monkeypatch.setattr("django_sse.management.commands.sse_tail.time.sleep", publish_meanwhile)
        printed, _ = run("sse_tail", "--count", "1")
        assert printed.endswith('a message "nobody numbered it"\n')
        assert "old" not in printed
        assert waits == [1]

    def test_control_c_ends_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupt(seconds: float) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("django_sse.management.commands.sse_tail.time.sleep", interrupt)
        assert run("sse_tail") == ("", "")

    def test_a_loss_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        send_events([("a", None, number) for number in range(5)])
        log.trim(keep=1)

        def publish(seconds: float) -> Any:
            send_event("a", None, "next")

        monkeypatch.setattr("django_sse.management.commands.sse_tail.time.sleep", publish)
        printed, complaint = run("sse_tail", "--since", "2", "--count", "1")
        assert complaint == "Position 2 cannot be continued (expired); going on from 5.\n"
        assert printed.endswith('"next"\n')

    def test_more_than_a_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("django_sse.management.commands.sse_tail.PAGE", 2)
        send_events([("a", None, number) for number in range(5)])
        assert len(run("sse_tail", "--since", "0", "--count", "5")[0].splitlines()) == 5

    def test_a_wrong_channel_is_an_error(self) -> None:
        with pytest.raises(CommandError, match="not a channel name"):
            run("sse_tail", "no spaces")
