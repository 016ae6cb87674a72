from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import django
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from django_sse import log, retention, send_event, send_events
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


class TestRetention:
    def test_trim_keeps_what_the_settings_say(self, settings: Any) -> None:
        send_events([("a", None, number) for number in range(10)])
        assert run("sse_trim")[0] == "Trimmed 0 events\n"
        Event.objects.filter(position__lte=3).update(created_at=timezone.now() - timedelta(days=8))
        assert run("sse_trim")[0] == "Trimmed 3 events\n"
        settings.DJANGO_SSE = {"RETENTION": {"MAX_EVENTS": 2}}
        assert run("sse_trim")[0] == "Trimmed 5 events\n"
        assert log.reach()[:2] == (8, 10)

    def test_purge_takes_one_channel_out(self) -> None:
        send_events([("user.7", None, 1), ("user.70", None, 2), ("user.7", None, 3)])
        assert run("sse_purge", "--channel", "user.7")[0] == "Purged 2 events of user.7\n"
        assert [event.channel for event in Event.objects.all()] == ["user.70"]
        assert log.reach() == (0, 3, 1)
        with pytest.raises(CommandError, match="not a channel name"):
            run("sse_purge", "--channel", "no spaces")

    def test_rebase_leaves_every_old_id_behind(self) -> None:
        send_event("a", None, 1)
        printed, _ = run("sse_rebase")
        assert "from position 1000001" in printed
        assert log.reach()[:2] == (1_000_001, 1_000_001)
        event = send_event("a", None, 2)
        assert event is not None
        assert event.position == 1_000_002
        run("sse_rebase", "--to", "5000000")
        with pytest.raises(CommandError, match="not beyond the head, which is 5000000"):
            run("sse_rebase", "--to", "5000000")

    @pytest.mark.skipif(django.VERSION < (6, 0), reason="Django has tasks from 6.0 on")
    def test_the_task_does_the_same(self, settings: Any) -> None:
        from django_sse.tasks import trim

        settings.DJANGO_SSE = {"RETENTION": {"MAX_EVENTS": 1}}
        send_events([("a", None, number) for number in range(3)])
        assert trim.call() == 2


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
        retention.trim(keep=1)

        def publish(seconds: float) -> Any:
            send_event("a", None, "next")

        monkeypatch.setattr("django_sse.management.commands.sse_tail.time.sleep", publish)
        printed, complaint = run("sse_tail", "--since", "2", "--count", "1")
        assert complaint == "Position 2 cannot be continued (expired); going on from 5.\n"
        assert printed.endswith('"next"\n')

    def test_a_trim_between_two_questions_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        send_events([("a", None, number) for number in range(5)])
        after = log.after

        def trimmed_meanwhile(*arguments: Any) -> list[Event]:
            retention.trim(keep=1)
            monkeypatch.setattr("django_sse.log.after", after)
            return after(*arguments)

        def publish(seconds: float) -> None:
            send_event("a", None, "next")

        monkeypatch.setattr("django_sse.log.after", trimmed_meanwhile)
        monkeypatch.setattr("django_sse.management.commands.sse_tail.time.sleep", publish)
        printed, complaint = run("sse_tail", "--since", "2", "--count", "1")
        assert complaint == "Position 2 cannot be continued (expired); going on from 5.\n"
        assert printed.endswith('"next"\n')

    def test_more_than_a_page(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("django_sse.management.commands.sse_tail.PAGE", 2)
        send_events([("a", None, number) for number in range(5)])
        assert len(run("sse_tail", "--since", "0", "--count", "5")[0].splitlines()) == 5

    def test_the_terminal_obeys_no_text(self) -> None:
        send_event("a", None, text="one\x1b]0;title\x07\u202e\n2 12:00:00 a message forged")
        printed, _ = run("sse_tail", "--since", "0", "--count", "1")
        assert printed.endswith("a message one«U+001B»]0;title«U+0007»«U+202E»«LF»2 12:00:00 a message forged\n")
        assert printed[:-1].isprintable()

    def test_a_wrong_channel_is_an_error(self) -> None:
        with pytest.raises(CommandError, match="not a channel name"):
            run("sse_tail", "no spaces")
