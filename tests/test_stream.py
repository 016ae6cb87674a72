"""One connection over time: replay, live, silence, loss that is said, and the end."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.db import InternalError, OperationalError, connections

from django_sse import asend_event, asend_events, log, reader, retention, stream
from django_sse import hub as hub_module
from django_sse.hub import Hub
from django_sse.models import Event, Head
from django_sse.signals import stream_closed, stream_opened
from django_sse.stream import Stream
from django_sse.testing import EventReader, ReceivedEvent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.usefixtures("committed")


@asynccontextmanager
async def opened(*channels: str, cursor: Any = None, last: int = 0) -> AsyncIterator[tuple[Stream, EventReader]]:
    one = await Stream.open(channels or ["a"], cursor, last=last)
    pieces = aiter(one)
    events = EventReader(pieces)
    events._events += events.parser.feed(await anext(pieces))
    try:
        yield one, events
    finally:
        await pieces.aclose()


async def take(events: EventReader, count: int) -> list[ReceivedEvent]:
    return [await events.next() for _ in range(count)]


async def publish(*data: Any, channel: str = "a") -> None:
    await asend_events([(channel, None, value) for value in data])


async def marked(pieces: Any, position: int) -> None:
    """Wait for a heartbeat that stands at ``position``."""
    async with asyncio.timeout(10):
        async for piece in pieces:
            if piece == b"id: %d\n\n" % position:
                return


async def test_replay_flows_into_live(monkeypatch: pytest.MonkeyPatch) -> None:
    await publish(*range(5))
    async with opened(cursor=2) as (_, events):
        await publish(5, 6)
        assert [event.json() for event in await take(events, 5)] == [2, 3, 4, 5, 6]
        assert events.parser.last_event_id == "7"


async def test_what_the_ring_has_lost_comes_from_the_log_in_pages(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DJANGO_SSE = {"RING_SIZE": 3}
    monkeypatch.setattr(stream, "FIRST_PAGE", 2)
    async with opened("a", "b") as (_, live):
        for start in range(0, 40, 10):
            await publish(*range(start, start + 10))
            await publish("b", channel="b")
        assert len(await take(live, 44)) == 44
        async with opened("a", cursor=0) as (_, events):
            received = await take(events, 40)
            assert [event.json() for event in received] == list(range(40))
            assert [int(event.last_event_id) for event in received] == [n + 1 + n // 10 for n in range(40)]


async def test_clients_with_the_same_question_share_one_query(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.DJANGO_SSE = {"RING_SIZE": 2}
    asked: list[Any] = []
    real = hub_module.page

    def counting(*key: Any) -> Any:
        asked.append(key)
        return real(*key)

    monkeypatch.setattr(hub_module, "page", counting)
    async with opened() as (_, live):
        await publish(*range(20))
        await take(live, 20)
        asked.clear()
        pieces = [aiter(await Stream.open(["a"], 0)) for _ in range(10)]
        for piece in pieces:
            await anext(piece)
        answers = await asyncio.gather(*(anext(piece) for piece in pieces))
        assert len(set(answers)) == 1
        assert answers[0].count(b"\ndata: ") == 20
        assert len(asked) == 1
        for piece in pieces:
            await piece.aclose()


async def test_one_that_leaves_does_not_take_the_answer_from_the_others(settings: Any) -> None:
    settings.DJANGO_SSE = {"RING_SIZE": 2}
    async with opened() as (_, live):
        await publish(*range(20))
        await take(live, 20)
        hub = Hub.current()
        leaving, staying = (asyncio.create_task(hub.replay(0, frozenset({"a"}), 100)) for _ in range(2))
        await asyncio.sleep(0)
        leaving.cancel()
        assert (await staying).events == 20


async def test_large_events_are_replayed_within_bounds(settings: Any) -> None:
    settings.DJANGO_SSE = {"RING_SIZE": 1}
    async with opened("other") as (_, live):
        await publish(*(str(n) * 60_000 for n in range(10)))
        await publish("done", channel="other")
        await live.next()
        one = await Stream.open(["a"], 0)
        pieces, sizes, found = aiter(one), [], 0
        while found < 10:
            piece = await anext(pieces)
            sizes.append(len(piece))
            found += piece.count(b"\ndata: ")
        assert max(sizes) < 5 * 60_000
        assert one._page < stream.FIRST_PAGE
        await pieces.aclose()


async def test_what_comes_while_a_stream_rests_leaves_as_one_write(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DJANGO_SSE = {"JOIN_WINDOW": 0.2}
    rests: list[float] = []
    resting, rested = asyncio.Event(), asyncio.Event()

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        resting.set()
        await rested.wait()

    # Only that module's, where nothing else sleeps: the hub goes on by the clock.
    monkeypatch.setattr(stream, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": rest}))
    pieces = aiter(await Stream.open(["a"], None))
    await anext(pieces)
    await publish("at once")
    assert (await anext(pieces)).count(b"data:") == 1
    joined = asyncio.ensure_future(anext(pieces))
    async with asyncio.timeout(10):
        await resting.wait()
        for number in (1, 2):
            await publish(number)
            await Hub.current().catch_up()
        rested.set()
        assert (await joined).count(b"data:") == 2
    assert rests == [0.2]
    await pieces.aclose()


class TestSilence:
    async def test_the_heartbeat_moves_the_cursor_of_a_quiet_channel(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"HEARTBEAT": 0.05}
        one = await Stream.open(["quiet"], None)
        pieces = aiter(one)
        await anext(pieces)
        await publish(1, 2, 3, channel="busy")
        await marked(pieces, 3)
        await pieces.aclose()

    async def test_it_goes_on_beating(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"HEARTBEAT": 0.02}
        pieces = aiter(await Stream.open(["quiet"], None))
        await anext(pieces)
        for _ in range(3):
            await marked(pieces, 0)
        await pieces.aclose()

    async def test_what_is_told_in_passing_does_not_stand_in_for_it(self, settings: Any) -> None:
        """It has no id, and the browser's would grow old."""
        settings.DJANGO_SSE = {"HEARTBEAT": 0.05}
        one = await Stream.open(["quiet"], None)
        pieces = aiter(one)
        await anext(pieces)
        await publish(1, 2, 3, channel="busy")
        seen = b""
        async with asyncio.timeout(10):
            while b"id: 3\n\n" not in seen:
                one.ephemeral(b"data: passing\n\n")
                seen += await anext(pieces)
                await asyncio.sleep(0)  # the hub's turn
        await pieces.aclose()

    async def test_a_page_can_hear_it_if_it_wants(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"HEARTBEAT": 0.05}
        one = await Stream.open(["quiet"], None)
        one.audible = True
        pieces = aiter(one)
        assert (await anext(pieces)).endswith(b"id: 0\nevent: sse.heartbeat\ndata: 0.05\n\n")
        await publish(1, 2, 3, channel="busy")
        async with asyncio.timeout(10):
            while await anext(pieces) != b"id: 3\nevent: sse.heartbeat\ndata: 0.05\n\n":
                pass
        await pieces.aclose()

    async def test_the_audible_is_on_time_however_much_is_sent(self, settings: Any) -> None:
        """A page that listens for none of those types would think that the connection is dead."""
        settings.DJANGO_SSE = {"HEARTBEAT": 0.05}
        one = await Stream.open(["a"], None)
        one.audible = True
        pieces = aiter(one)
        await anext(pieces)
        async with asyncio.timeout(10):
            for number in range(1000):
                await publish(number)
                piece = await anext(pieces)
                if b"sse.heartbeat" in piece and piece.count(b"data:") > 1:
                    break
        assert piece.startswith(b"id: ")
        assert piece.endswith(b"event: sse.heartbeat\ndata: 0.05\n\n")
        await pieces.aclose()


class TestLossIsSaid:
    async def test_a_cursor_older_than_the_log(self) -> None:
        await publish(*range(5))
        await sync_to_async(retention.trim)(keep=2)
        async with opened(cursor=2) as (_, events):
            event = await events.next()
            assert (event.type, event.json()) == ("sse.reset", {"reason": "expired", "id": 5})
            await publish("live")
            assert (await events.next()).json() == "live"
        async with opened(cursor=3) as (_, events):
            assert [event.json() for event in await take(events, 2)] == [3, 4]

    async def test_trimmed_in_the_middle_of_replay(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"RING_SIZE": 1}
        async with opened("other") as (_, live):
            await publish(*range(10))
            await publish(0, channel="other")
            await live.next()
            one = await Stream.open(["a"], 2)
            await sync_to_async(retention.trim)(keep=3)
            pieces = aiter(one)
            events = EventReader(pieces)
            assert (await events.next()).json() == {"reason": "expired", "id": 11}
            await pieces.aclose()

    async def test_a_log_restored_from_an_older_backup(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.02}
        async with opened() as (one, events):
            await publish(*range(5))
            await take(events, 5)
            await Event.objects.filter(position__gt=2).adelete()
            await Head.objects.aupdate(position=2)
            event = await events.next()
            assert (event.type, event.json()) == ("sse.reset", {"reason": "ahead", "id": 2})
            assert one.cursor == 2
            await publish("after the restore")
            assert (await events.next()).json() == "after the restore"

    async def test_trimmed_before_this_process_read_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with opened() as (_, events):
            with monkeypatch.context() as patch:
                patch.setattr(Hub, "doorbell", lambda self: None)
                patch.setattr(hub_module, "look", lambda *_: (log.Reach(0, 0), []))
                await publish(*range(5))
                await sync_to_async(retention.trim)(keep=1)
            Hub.current().doorbell()
            assert (await events.next()).json() == {"reason": "expired", "id": 5}

    async def test_trimmed_between_two_looks_of_one_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        await publish(*range(5))
        real = log.rows_after

        def trimming(*args: Any) -> Any:
            retention.trim(keep=1)
            return real(*args)

        monkeypatch.setattr(log, "rows_after", trimming)
        reach, frames = await sync_to_async(reader.look)(1, False)
        assert reach.floor > 1
        assert frames == []

    async def test_rows_without_a_position_are_found_however_often_the_bell_rings(self, settings: Any) -> None:
        """Their publisher died, and each stream that opens rings before the poll is due."""
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.2}

        async def ring() -> None:
            while True:
                Hub.current().doorbell()
                await asyncio.sleep(0.05)

        async with opened() as (_, events):
            ringing = asyncio.create_task(ring())
            await asyncio.sleep(0.3)  # past the first look, which heals in any case
            await Event.objects.acreate(channel="a", data="1")
            assert (await events.next()).json() == 1
            ringing.cancel()

    async def test_purged_rows_leave_holes_that_are_no_loss(self) -> None:
        async with opened() as (_, events):
            await publish(0)
            await events.next()
            await sync_to_async(retention.trim)(keep=1)  # a floor, but not above anybody
            await Event.objects.abulk_create([Event(channel="a", data=str(n)) for n in (1, 2, 3)])
            await sync_to_async(numbered_without_a_ring)()
            await Event.objects.filter(position=2).adelete()
            Hub.current().doorbell()
            assert [event.json() for event in await take(events, 2)] == [2, 3]

    async def test_a_purged_channel_is_forgotten_by_running_processes(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.01}
        async with opened("a", "b") as (_one, events):
            await asend_events([("a", None, "secret"), ("b", None, "kept")])
            await take(events, 2)
            hub = Hub.current()
            await sync_to_async(retention.purge)("a")
            async with asyncio.timeout(10):
                while hub._generation == 0:  # noqa: ASYNC110 - what counts is inside the hub
                    await asyncio.sleep(0)
            async with opened("a", "b", cursor=0) as (_, late):
                assert (await late.next()).json() == "kept"
            await publish("live", channel="b")
            assert (await events.next()).json() == "live"

    async def test_after_a_rebase_every_old_id_is_told(self) -> None:
        await publish(1)
        await sync_to_async(retention.rebase)(100)
        for old in (0, 1, 99):
            async with opened(cursor=old) as (_, events):
                assert (await events.next()).json() == {"reason": "expired", "id": 100}
        async with opened(cursor=101) as (_, events):
            assert (await events.next()).json()["reason"] == "ahead"

    async def test_a_row_that_cannot_be_an_event_does_not_silence_the_rest(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with opened() as (_, events):
            await Event.objects.acreate(channel="a", type="poison\ndata: forged", data="1")
            await publish("after")
            first, second = await take(events, 2)
            assert (first.type, first.json()) == ("sse.reset", {"reason": "unreadable", "id": 1})
            assert second.json() == "after"
            assert "Event 1 of the log cannot be sent" in caplog.text
            assert "forged" not in caplog.text


def numbered_without_a_ring() -> None:
    from django_sse.sequencer import sequence

    sequence()


class TestEphemeral:
    async def test_it_passes_without_an_id(self) -> None:
        async with opened() as (_, events):
            await publish(1)
            stored = await events.next()
            await asend_event("a", "typing", "Ann", store=False)
            passing = await events.next()
            assert (passing.type, passing.json(), passing.last_event_id) == ("typing", "Ann", stored.last_event_id)

    async def test_a_client_that_does_not_read_loses_the_oldest(self) -> None:
        one = await Stream.open(["a"], None)
        pieces = aiter(one)
        await anext(pieces)
        for number in range(stream.EPHEMERAL + 5):
            one.ephemeral(b"%d " % number)
        assert (await anext(pieces)).split()[0] == b"5"
        await pieces.aclose()


class TestTheEnd:
    async def test_at_its_age_the_body_ends_and_nothing_is_lost(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_AGE": 0.05}
        received, cursor = [], 0
        for number in range(5):
            async with opened(cursor=cursor) as (_, events):
                await publish(number)
                with pytest.raises(EOFError):
                    while True:
                        received.append((await events.next()).json())
                cursor = int(events.parser.last_event_id)
        settings.DJANGO_SSE = {}
        async with opened(cursor=cursor) as (_, events):
            await publish("end")
            while (value := (await events.next()).json()) != "end":
                received.append(value)
        assert received == list(range(5))

    async def test_ages_are_spread(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"MAX_AGE": 1000}
        ends = []
        for _ in range(20):
            async with opened() as (one, _):
                ends.append(one._end_at - one._written_at)
        assert all(690 < end <= 1001 for end in ends)
        assert max(ends) - min(ends) > 50

    async def test_ended_by_hand(self) -> None:
        async with opened() as (one, events):
            one.end()
            with pytest.raises(EOFError):
                await events.next()

    async def test_whoever_waits_is_told_that_it_opened_and_closed(self) -> None:
        heard: list[tuple[str, frozenset[str]]] = []

        def hear_open(*, stream: Stream, **kwargs: Any) -> None:
            heard.append(("opened", stream.channels))

        async def hear_close(*, stream: Stream, **kwargs: Any) -> None:
            heard.append(("closed", stream.channels))

        stream_opened.connect(hear_open)
        stream_closed.connect(hear_close)
        try:
            async with opened("a", "b"):
                assert heard == [("opened", {"a", "b"})]
            assert heard[1:] == [("closed", {"a", "b"})]
        finally:
            stream_opened.disconnect(hear_open)
            stream_closed.disconnect(hear_close)

    async def test_nothing_stays_behind(self) -> None:
        async with opened("a", "b"), opened("b"):
            hub = Hub.current()
            assert hub._count == 2
        assert hub._count == 0
        assert hub._subscribers == {}

    async def test_cancelled_while_it_waits(self) -> None:
        pieces = aiter(await Stream.open(["a"], None))
        await anext(pieces)
        waiting = asyncio.ensure_future(anext(pieces))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert Hub.current()._count == 0


class TestAFailingDatabase:
    async def test_streams_stay_open_and_go_on_afterwards(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.01}
        failed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def fail(*args: Any) -> Any:
            loop.call_soon_threadsafe(failed.set)
            raise OperationalError("the database has gone")

        async with opened() as (_, events):
            with monkeypatch.context() as patch:
                patch.setattr(hub_module, "look", fail)
                for _ in range(3):
                    failed.clear()
                    await asyncio.wait_for(failed.wait(), 10)
                late = await Stream.open(["a"], None)  # nothing has to be read for it
                with pytest.raises(OperationalError):
                    await Stream.open(["a"], None, last=1)
                assert late.cursor == Hub.current().ring.head
                await publish(1)
            assert (await events.next()).json() == 1
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert len(warnings) == 1, "once per outage"
        assert "cannot be read" in warnings[0].getMessage()

    async def test_numbering_that_fails_keeps_nobody_from_reading(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A read-only PostgreSQL raises InternalError, and a stream could not even be opened."""
        await publish(1)
        await Event.objects.acreate(channel="a", data="of a publisher that died")

        def fail() -> None:
            raise InternalError("cannot execute SELECT FOR UPDATE in a read-only transaction")

        monkeypatch.setattr(reader, "sequence", fail)
        async with opened(cursor=0) as (_, events):
            assert (await events.next()).json() == 1
        assert "could not be numbered" in caplog.text

    async def test_replay_that_is_cut_short_ends_the_body(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(*args: Any) -> Any:
            raise OperationalError("the database has gone")

        await publish(1)
        one = await Stream.open(["a"], None)
        async with opened("other"):
            Hub.current().ring.clear(1)
            one.cursor = 0
            monkeypatch.setattr(hub_module, "page", fail)
            rest = [piece async for piece in one]
        assert len(rest) == 2
        assert re.fullmatch(rb"retry: \d+\n\n", rest[1])
        assert "cut short" in caplog.text
        assert one.cursor == 0


class TestTheHub:
    async def test_one_for_all_streams_of_a_loop(self) -> None:
        async with opened("a"), opened("b"):
            assert Hub.current() is Hub.current()

    async def test_it_ends_after_its_last_stream_and_gives_its_connection_back(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.01}
        monkeypatch.setattr(hub_module, "LINGER", 0.0)
        async with opened():
            hub = Hub.current()
        async with asyncio.timeout(10):
            await hub._task
        assert hub not in Hub._hubs.values()
        async with opened() as (_, events):
            assert Hub.current() is not hub
            await publish(1)
            assert (await events.next()).json() == 1

    async def test_it_may_end_between_opening_and_reading(self, monkeypatch: pytest.MonkeyPatch) -> None:
        await publish(1, 2)
        one = await Stream.open(["a"], 1)
        hub = Hub.current()
        hub._task.cancel()
        await asyncio.wait([hub._task])
        pieces = aiter(one)
        events = EventReader(pieces)
        assert ((event := await events.next()).type, event.json()) == ("message", 2)
        await pieces.aclose()

    async def test_stopped_it_sends_its_streams_back_to_a_new_one(self) -> None:
        async with opened() as (_, events):
            hub = Hub.current()
            asked = asyncio.create_task(hub.catch_up())
            await asyncio.sleep(0)
            hub._task.cancel()
            with pytest.raises(EOFError):
                await events.next()
            with pytest.raises(RuntimeError, match="stopped"):
                await asked

    async def test_a_listener_that_ends_is_started_again_and_said(
        self, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.01}
        from django_sse.brokers import get_broker

        broker, real = get_broker(), get_broker().listen
        calls = 0

        async def flaky(listener: Any) -> None:
            nonlocal calls
            calls += 1
            if calls < 3:
                raise ConnectionError("the broker is away")
            await real(listener)

        monkeypatch.setattr(broker, "listen", flaky)
        async with opened() as (_, events):
            await publish(1)
            assert (await events.next()).json() == 1
            async with asyncio.timeout(10):
                while calls < 3:  # noqa: ASYNC110 - what counts is inside the broker
                    await asyncio.sleep(0)
        assert "ended and is started again" in caplog.text

    async def test_rows_that_nobody_numbered_are_found_by_the_poll(self, settings: Any) -> None:
        settings.DJANGO_SSE = {"POLL_INTERVAL": 0.01}
        async with opened() as (_, events):
            await Event.objects.acreate(channel="a", data='"their publisher died"')
            assert (await events.next()).json() == "their publisher died"

    async def test_more_than_a_page_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(hub_module, "PAGE", 3)
        monkeypatch.setattr(reader, "PAGE", 3)
        async with opened() as (_, events):
            await publish(*range(10))
            assert [event.json() for event in await take(events, 10)] == list(range(10))

    async def test_a_known_cursor_opens_without_a_query(self) -> None:
        await publish(1, 2)
        async with opened():
            hub = Hub.current()
            asked = hub._asking
            async with opened(cursor=2) as (_, events):
                assert hub._asking is asked
                assert asked == []
                await publish(3)
                assert (await events.next()).json() == 3


async def test_the_gate_leaves_no_connection_behind_when_idle() -> None:
    from django_sse.gate import Gate

    gate = Gate(2)
    assert await gate.run(lambda: connections["default"].ensure_connection()) is None

    def is_connected() -> bool:
        return connections["default"].connection is not None

    assert [await gate.run(is_connected) for _ in range(4)] == [False] * 4
    keeping = Gate(1, keep=True)
    await keeping.run(lambda: connections["default"].ensure_connection())
    assert await keeping.run(is_connected)
    with pytest.raises(ZeroDivisionError):
        await keeping.run(lambda: 1 // 0)
    assert not await keeping.run(is_connected), "after a failure it is made anew"
    gate.close()
    keeping.close()


async def test_the_gate_forgets_who_was_cancelled_while_it_waited() -> None:
    from django_sse.gate import Gate

    gate = Gate(1)
    begun, go = threading.Event(), threading.Event()

    def hold() -> bool:
        begun.set()
        return go.wait(10)

    running = asyncio.create_task(gate.run(hold))
    await asyncio.to_thread(begun.wait, 10)
    waiting = asyncio.create_task(gate.run(lambda: None))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    assert await running
    await gate.run(lambda: connections["default"].ensure_connection())
    assert not await gate.run(lambda: connections["default"].connection is not None)
    gate.close()
