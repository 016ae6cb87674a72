from __future__ import annotations

import asyncio
import json
import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth import get_user_model
from django.db import OperationalError
from django.test import AsyncClient

from django_sse import asend_event, log, retention, send_event, tokens, writer
from django_sse.access import authorize
from django_sse.channels import token_channel
from django_sse.compaction import apply
from django_sse.exceptions import InvalidChannel
from django_sse.models import Event
from django_sse.testing import listen
from django_sse.tokens import astop_tokens, atokens_since, stop_tokens, stream_tokens, token_stream, tokens_since
from django_sse.writer import Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

CHANNEL = "public.answer"
LONG = 3600.0

pytestmark = pytest.mark.usefixtures("committed")


def rows(channel: str = CHANNEL, after: int = 0) -> list[tuple[str, Any]]:
    return [(event.type, json.loads(event.data)) for event in log.after(after, [channel], 100_000)]


arows = sync_to_async(rows)


def read(events: list[tuple[str, Any]], text: str = "") -> str:
    """What a page makes of ``events``: its three lines, in Python."""
    for event_type, data in events:
        if event_type in ("token", "done"):
            text = apply(text, data)
    return text


async def until(condition: Any) -> Any:
    async with asyncio.timeout(10):
        while not (answer := await condition()):  # noqa: ASYNC110 - the log has no Event
            await asyncio.sleep(0.005)
        return answer


async def test_a_text_ends_as_one_event() -> None:
    async with token_stream(CHANNEL) as stream:
        for token in ("Hel", "lo ", "wörld \N{ROCKET}"):
            await stream.send(token)
        assert stream.reason is None
    assert (stream.text, stream.reason) == ("Hello wörld \N{ROCKET}", "end")
    assert await arows() == [("done", {"at": 0, "text": "Hello wörld \N{ROCKET}", "reason": "end"})]


async def test_the_first_token_goes_out_at_once_and_the_rest_together() -> None:
    async with token_stream(CHANNEL) as stream:
        await stream.send("first")
        assert await until(arows) == [("token", {"at": 0, "text": "first"})]
        for _ in range(1000):
            await stream.send("x")
        await until(lambda: sync_to_async(lambda: len(read(rows())) == 1005)())
        assert len(await arows()) <= 4


async def test_the_offset_counts_as_javascript_does() -> None:
    async with token_stream(CHANNEL) as stream:
        await stream.send("\N{ROCKET}")
        await until(arows)
        await stream.send("!")
        assert (await until(lambda: sync_to_async(lambda: rows()[1:])()))[0] == ("token", {"at": 2, "text": "!"})


async def test_the_halves_of_a_character_are_joined() -> None:
    async with token_stream(CHANNEL) as stream:
        await stream.send("a\ud83d")
        await until(arows)
        await stream.send("\ude80b\udc00c\ud83d")
    assert await arows() == [("done", {"at": 0, "text": "a\N{ROCKET}b\ufffdc\ufffd", "reason": "end"})]


async def test_half_of_a_character_at_the_end_does_not_break_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "fits", lambda data: "reason" not in data)
    async with token_stream(CHANNEL) as stream:
        await stream.send("a\ud83d")
    assert await arows() == [
        ("token", {"at": 0, "text": "a"}),
        ("token", {"at": 1, "text": "\ufffd"}),
        ("done", {"at": 2, "text": "", "reason": "end"}),
    ]


async def test_a_text_that_is_too_long_for_one_event_stays_in_parts(settings: Any) -> None:
    settings.DJANGO_SSE = {"MAX_EVENT_BYTES": 300}
    text = 'é"\n\N{ROCKET}' * 500
    await stream_tokens(CHANNEL, [text])
    assert read(await arows()) == text
    assert await sync_to_async(lambda: max(len(event.data.encode()) for event in Event.objects.all()))() <= 300


async def test_a_stop_is_of_one_text_also_of_one_that_stays_in_parts(settings: Any) -> None:
    settings.DJANGO_SSE = {"MAX_EVENT_BYTES": 300}
    task = asyncio.create_task(stream_tokens(CHANNEL, model("a" * 1000, LONG)))
    await until(arows)
    await astop_tokens(CHANNEL)
    assert (await task).reason == "stopped"
    assert "stop" not in [kind for kind, _ in await arows()]
    assert (await stream_tokens(CHANNEL, model("again", 0.6))).reason == "end"


async def model(*steps: str | float | Exception) -> AsyncIterator[str]:
    for step in steps:
        if isinstance(step, Exception):
            raise step
        if isinstance(step, str):
            yield step
        else:
            await asyncio.sleep(step)


async def test_all_tokens_of_an_iterator() -> None:
    stream = await stream_tokens(CHANNEL, model("a", 0.01, "b"))
    assert (stream.text, stream.reason) == ("ab", "end")
    assert read(await arows()) == "ab"


def test_from_sync_code() -> None:
    def words() -> Iterator[str]:
        for word in ("a", "b"):
            assert log.get_head() >= 0  # in a thread of its own, with a connection of its own
            yield word

    assert async_to_sync(stream_tokens)(CHANNEL, words()).text == "ab"
    assert read(rows()) == "ab"


async def test_a_failure_is_stored_and_raised() -> None:
    with pytest.raises(ValueError, match="secret"):
        await stream_tokens(CHANNEL, model("a", ValueError("secret")))
    assert await arows() == [("done", {"at": 0, "text": "a", "reason": "failed"})]


async def test_a_cancelled_producer_ends_its_text() -> None:
    task = asyncio.create_task(stream_tokens(CHANNEL, model("a", LONG)))
    await until(arows)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await arows() == [("done", {"at": 0, "text": "a", "reason": "failed"})]


@pytest.mark.parametrize("token", [None, b"b", 1])
async def test_what_is_no_text_ends_the_text_as_failed(token: Any) -> None:
    """``None`` is what the SDKs of some services have at the end."""
    with pytest.raises(TypeError, match=f"A token is a str, and this is of type {type(token).__name__}"):
        await stream_tokens(CHANNEL, ["a", token])
    assert await arows() == [("done", {"at": 0, "text": "a", "reason": "failed"})]


async def test_a_producer_that_is_cancelled_as_it_ends_stores_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    publish = send_event.__globals__["send_events"]
    writing, go = threading.Event(), threading.Event()
    ended = asyncio.Event()

    def slow(items: Any) -> Any:
        writing.set()
        assert go.wait(10)
        return publish(items)

    async def words() -> AsyncIterator[str]:
        yield "all of it"
        ended.set()

    monkeypatch.setattr("django_sse.writer.send_events", slow)
    task = asyncio.create_task(stream_tokens(CHANNEL, words()))
    async with asyncio.timeout(10):
        await ended.wait()
    assert await asyncio.to_thread(writing.wait, 10)
    task.cancel()
    for _ in range(10):  # turns of the loop: more than it takes to leave, if it may
        await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await arows() == [("done", {"at": 0, "text": "all of it", "reason": "end"})]
    assert asyncio.get_running_loop() not in Writer._writers


async def test_stop_ends_a_producer_that_thinks() -> None:
    task = asyncio.create_task(stream_tokens(CHANNEL, model("a", LONG)))
    await until(arows)
    await astop_tokens(CHANNEL)
    await astop_tokens(CHANNEL)
    async with asyncio.timeout(10):
        stream = await task
    assert (stream.text, stream.reason) == ("a", "stopped")
    assert await arows() == [("done", {"at": 0, "text": "a", "reason": "stopped"})]


async def test_stop_leaves_the_block_and_the_code_goes_on() -> None:
    went_on = False
    async with token_stream(CHANNEL) as stream:
        await stream.send("a")
        await astop_tokens(CHANNEL)
        await asyncio.sleep(LONG)
        went_on = True
    assert not went_on
    assert stream.reason == "stopped"
    await asyncio.sleep(0)  # the task was not left half cancelled


async def test_a_block_that_ends_before_the_stop_ends_it_is_whole() -> None:
    async with token_stream(CHANNEL) as stream:
        await stream.send("all of it")
        stream.stop()
    assert stream.reason == "end"
    with pytest.raises(ValueError, match="secret"):
        async with token_stream(CHANNEL) as stream:
            stream.stop()
            raise ValueError("secret")
    assert stream.reason == "failed"


async def test_stop_is_of_one_channel() -> None:
    other = asyncio.create_task(stream_tokens("public.other", model("b", LONG)))
    await until(lambda: sync_to_async(rows)("public.other"))
    await asyncio.gather(stream_tokens(CHANNEL, model("a", LONG)), astop_tokens(CHANNEL))
    assert not other.done()
    other.cancel()
    await asyncio.wait({other})


def test_stop_before_the_beginning_and_after_the_end() -> None:
    stop_tokens(CHANNEL)
    assert async_to_sync(stream_tokens)(CHANNEL, model(LONG)).reason == "stopped"
    stop_tokens(CHANNEL)
    assert [kind for kind, _ in rows()] == ["done"]
    assert async_to_sync(stream_tokens)(CHANNEL, model("again", 0.6)).reason == "end"


async def test_a_sync_producer_is_stopped_after_its_item() -> None:
    closed = threading.Event()

    def words() -> Iterator[str]:
        try:
            while True:
                yield "a"
                time.sleep(0.01)
        finally:
            closed.set()

    source = words()  # is ours too: no garbage collector closes it
    task = asyncio.create_task(stream_tokens(CHANNEL, source))
    await until(arows)
    await astop_tokens(CHANNEL)
    async with asyncio.timeout(10):
        assert (await task).reason == "stopped"
    assert await asyncio.to_thread(closed.wait, 10)


async def test_a_text_that_begins_anew_replaces_what_was_there() -> None:
    """A producer was killed, and its task is run again."""
    await asend_event(CHANNEL, "token", {"at": 0, "text": "Half of a sen"})
    await asend_event(CHANNEL, "token", {"at": 13, "text": "tence"})
    before = await arows()
    position = await sync_to_async(log.get_head)()
    async with token_stream(CHANNEL) as stream:
        await stream.send("Other")
        await until(lambda: sync_to_async(rows)(CHANNEL, position))
        assert read(await arows()) == "Other"
    assert len(await arows()) == 1
    assert read(await sync_to_async(rows)(CHANNEL, position), read(before)) == "Other"


async def test_other_events_and_earlier_texts_of_the_channel_stay() -> None:
    await asend_event(CHANNEL, "notification", 1)
    await stream_tokens(CHANNEL, ["one"])
    await asend_event("public.other", "token", {"at": 0, "text": "x"})
    await stream_tokens(CHANNEL, ["two"])
    assert [kind for kind, _ in await arows()] == ["notification", "done", "done"]
    assert len(await sync_to_async(rows)("public.other")) == 1


def test_a_reader_anywhere_loses_nothing_when_the_pieces_go() -> None:
    """Each reader has what it read up to some position, and goes on with what the log has now, or had then: the memory
    of some process. In any mixture of the two, it ends with the whole text."""
    send_event(CHANNEL, "note", 0)
    words = [random.choice(["a ", "wörd ", "\N{ROCKET}", "\n"]) for _ in range(300)]
    text = "".join(words)

    async def produce() -> list[tuple[int, list[tuple[int, str, Any]]]]:
        seen: list[tuple[int, list[tuple[int, str, Any]]]] = []

        async def next_head() -> int:
            while True:
                head = await log.aget_head()
                if head > (seen[-1][0] if seen else 1):
                    return head
                await asyncio.sleep(0.005)

        async with token_stream(CHANNEL) as stream:
            for number, word in enumerate(words):
                await stream.send(word)
                if number % 10 == 0:
                    seen.append((await next_head(), await sync_to_async(positions)()))
        return seen

    def positions() -> list[tuple[int, str, Any]]:
        return [(event.position or 0, event.type, json.loads(event.data)) for event in log.after(0, [CHANNEL], 1000)]

    seen = async_to_sync(produce)()
    now = positions()
    assert len({position for position, _ in seen}) == 30
    assert [kind for _, kind, _ in now] == ["note", "done"]
    then = [*seen[-1][1], *now[1:]]
    for position, events in seen:
        mine = read([(kind, data) for _, kind, data in events])
        assert read(rows(CHANNEL, position), mine) == text
        for _ in range(20):
            cursor, shown = position, mine
            while cursor < now[-1][0]:  # a page from one place, a page from another
                source, upto = random.choice([now, then]), random.randint(cursor + 1, now[-1][0])
                shown = read([(kind, data) for at, kind, data in source if cursor < at <= upto], shown)
                cursor = upto
            assert shown == text
    since = tokens_since(CHANNEL)
    for source in (now, then):  # a page that is loaded afterwards
        assert read([(kind, data) for at, kind, data in source if at > min(since, now[1][0] - 1)]) == text


async def test_the_database_may_fail_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "PAUSE", 0.01)
    failures = iter([True, True, False, True])
    publish = send_event.__globals__["send_events"]

    def flaky(items: Any) -> Any:
        events = publish(items)  # what is worst: it was written, and nobody knows
        if next(failures, False):
            raise OperationalError("gone")
        return events

    monkeypatch.setattr("django_sse.writer.send_events", flaky)
    stream = await stream_tokens(CHANNEL, model("a", 0.1, "b", 0.1, "c"))
    assert stream.reason == "end"
    assert next(failures, None) is None
    assert read(await arows()) == "abc"


async def test_a_database_that_stays_away_ends_the_producer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "PAUSE", 0.01)
    monkeypatch.setattr(tokens, "PATIENCE", 0.05)

    def broken(items: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr("django_sse.writer.send_events", broken)
    with pytest.raises(OperationalError, match="gone"):
        await stream_tokens(CHANNEL, model(*["x" * 1000, 0.02] * 1000))


async def test_any_other_failure_ends_the_producer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(items: Any) -> Any:
        raise RuntimeError("the broker's settings are wrong")

    monkeypatch.setattr("django_sse.writer.send_events", broken)
    told = 0
    with pytest.raises(RuntimeError, match="settings are wrong"):
        async with asyncio.timeout(10), token_stream(CHANNEL) as stream:
            for size in (1000, 100_000):  # also who goes on all the same does not wait
                with pytest.raises(RuntimeError, match="settings are wrong"):
                    while True:
                        await stream.send("x" * size)
                        await asyncio.sleep(0)
                told += 1
    assert told == 2
    assert asyncio.get_running_loop() not in Writer._writers


async def test_a_writer_goes_on_looking_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([RuntimeError("once")])
    look = writer.stopped

    def flaky(channels: Any) -> Any:
        for failure in failures:
            raise failure
        return look(channels)

    monkeypatch.setattr(writer, "stopped", flaky)
    task = asyncio.create_task(stream_tokens(CHANNEL, model("a", LONG)))
    await until(arows)
    await astop_tokens(CHANNEL)
    async with asyncio.timeout(10):
        assert (await task).reason == "stopped"


async def test_many_texts_share_their_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    publish = send_event.__globals__["send_events"]
    sizes: list[int] = []

    def counting(items: Any) -> Any:
        sizes.append(len(items))
        return publish(items)

    monkeypatch.setattr("django_sse.writer.send_events", counting)
    await asyncio.gather(*(stream_tokens(f"public.{n}", model(*["x", 0.01] * 20)) for n in range(30)))
    for n in range(30):
        assert read(await sync_to_async(rows)(f"public.{n}")) == "x" * 20
    assert max(sizes) >= 10


async def test_the_last_producer_takes_the_writer_with_it() -> None:
    await stream_tokens(CHANNEL, ["a"])
    assert asyncio.get_running_loop() not in Writer._writers
    with pytest.raises(InvalidChannel):
        token_stream("not a channel")
    with pytest.raises(RuntimeError, match="within the block"):
        await token_stream(CHANNEL).send("a")


async def test_a_page_begins_where_the_text_does() -> None:
    await asend_event("public.other", None, 1)
    assert await atokens_since(CHANNEL) == 1
    await asend_event(CHANNEL, "token", {"at": 0, "text": "a"})
    await asend_event(CHANNEL, "token", {"at": 1, "text": "b"})
    assert await atokens_since(CHANNEL) == 1
    await stream_tokens(CHANNEL, ["new"])
    since = await sync_to_async(tokens_since)(CHANNEL)
    assert since == 4
    async with listen(AsyncClient(), f"/events/?channel={CHANNEL}&since={since}") as stream:
        assert (await stream.next()).json() == {"at": 0, "text": "new", "reason": "end"}


async def test_a_page_begins_where_the_newest_text_does() -> None:
    """The end of an earlier text would close it."""
    with pytest.raises(ValueError, match="secret"):
        await stream_tokens(CHANNEL, model("first", ValueError("secret")))
    await asend_event(CHANNEL, "notification", 1)
    end = await sync_to_async(log.get_head)()
    async with token_stream(CHANNEL) as stream:
        await stream.send("second")
        await until(lambda: sync_to_async(rows)(CHANNEL, end))
        assert await atokens_since(CHANNEL) == end
    since = await atokens_since(CHANNEL)
    assert await sync_to_async(rows)(CHANNEL, since) == [("done", {"at": 0, "text": "second", "reason": "end"})]


def test_a_page_does_not_begin_where_the_log_cannot(settings: Any) -> None:
    settings.DJANGO_SSE = {"MAX_EVENT_BYTES": 300}
    async_to_sync(stream_tokens)(CHANNEL, ["a" * 1000])
    first = tokens_since(CHANNEL)
    retention.rebase(log.get_head() + 1000)
    assert tokens_since(CHANNEL) == log.get_head() > first


async def test_a_reader_follows_while_it_grows() -> None:
    async with listen(AsyncClient(), f"/events/?channel={CHANNEL}&since=0") as reader:
        text = ""
        async with token_stream(CHANNEL) as stream:
            for number in range(1, 4):
                await stream.send("word ")
                event = await reader.next()
                text = apply(text, event.json())
                assert (event.type, text) == ("token", "word " * number)
        event = await reader.next()
        assert (event.type, apply(text, event.json())) == ("done", "word " * 3)


class TestOwner:
    async def test_a_token_channel_is_its_users_alone(self, rf: Any) -> None:
        users = [await get_user_model().objects.acreate(username=name) for name in ("ann", "bob")]
        channel = token_channel(users[0], "42")
        assert channel == f"tokens.{users[0].pk}.42"

        async def may(user: Any, channel: str) -> bool:
            async def auser() -> Any:
                return user

            request = rf.get("/")
            request.auser = auser
            return await authorize(request, channel)

        assert await may(users[0], channel)
        assert not await may(users[1], channel)
        for name in (
            f"tokens.{users[0].pk}",
            f"tokens.{users[0].pk}.",
            f"tokens..{users[0].pk}",
            "tokens.",
            "tokens.None.1",
        ):
            assert not await may(users[0], name), name

    def test_a_key_with_a_dot_is_not_another_users(self) -> None:
        from django_sse.channels import is_token_channel

        class User:
            def __init__(self, pk: str | None) -> None:
                self.pk = pk

        short: Any = User("ann")
        long: Any = User("ann.smith")
        nobody: Any = User(None)
        assert is_token_channel(token_channel(long, 1), long)
        assert not is_token_channel(token_channel(long, 1), short)
        assert not is_token_channel(token_channel(short, "smith"), long)
        assert not is_token_channel("tokens.None.1", nobody)
        with pytest.raises(InvalidChannel, match="dot"):
            token_channel(short, "smith.1")
        with pytest.raises(InvalidChannel, match="primary key"):
            token_channel(nobody, "1")
