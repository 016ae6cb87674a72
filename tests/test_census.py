"""Counting streams over all hubs: what they tell each other, late, lost, forged or not at all."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from django_sse import census
from django_sse.census import HUBS, PART, Census
from tests.security.waiting import until

HUB = "f" * 32


class Wire:
    """A broker to all censuses that joined. ``cut``: those that nobody hears any more."""

    crosses_processes = True

    def __init__(self) -> None:
        self.members: list[Census] = []
        self.cut: set[Census] = set()
        self.sent: list[dict[str, Any]] = []

    def join(self, *, asks: bool = True) -> Census:
        member = Census(Sender(self))
        member._broker.member = member
        self.members.append(member)
        if asks:
            member.ask()
        return member

    def counts(self) -> list[dict[str, Any]]:
        return [one for one in self.sent if one.get("streams")]


class Sender:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.crosses_processes = wire.crosses_processes
        self.member: Any = None

    def announce(self, announcement: dict[str, Any]) -> None:
        text = json.dumps(announcement)
        self.wire.sent.append(json.loads(text))
        if self.member not in self.wire.cut:
            for one in self.wire.members:
                if one not in self.wire.cut:
                    one._loop.call_soon(one.hear, json.loads(text))


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture(autouse=True)
def _limit(settings: Any) -> None:
    settings.DJANGO_SSE = {"MAX_STREAMS_PER_USER": 3}


def full(member: Census, user: str = "7") -> bool:
    return member.is_full(user, "")


async def moments(number: int = 5) -> None:
    """Let what is under way arrive."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_streams_of_all_hubs_count(wire: Wire) -> None:
    one, other = wire.join(), wire.join()
    one.add("7", "")
    other.add("7", "")
    other.add("8", "")
    assert not full(one)
    one.add("7", "")
    await until(lambda: full(one) and full(other))
    assert not full(one, "8")
    other.discard("7", "")
    await until(lambda: not full(one) and not full(other))


async def test_addresses_count_where_they_are_limited(wire: Wire, settings: Any) -> None:
    settings.DJANGO_SSE = {"MAX_STREAMS_PER_ADDRESS": 2, "MAX_STREAMS_PER_USER": None}
    one, other = wire.join(), wire.join()
    one.add("7", "192.0.2.1")
    one.add(None, "192.0.2.2")
    other.add("8", "192.0.2.1")
    await until(lambda: one.is_full(None, "192.0.2.1") and other.is_full("9", "192.0.2.1"))
    assert not other.is_full("7", "192.0.2.2")
    assert not other.is_full("7", "")


async def test_a_hub_that_was_killed_is_forgotten_after_its_lease(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "INTERVAL", 0.05)
    monkeypatch.setattr(census, "LEASE", 2)
    alive, killed, other = wire.join(), wire.join(), wire.join()
    alive.add("8", "")
    for _ in range(3):
        killed.add("7", "")
        alive.add("8", "")
    await until(lambda: full(other) and full(other, "8"))
    wire.cut.add(killed)
    assert full(other)
    await until(lambda: not full(other))
    assert full(other, "8"), "who goes on announcing is not forgotten"


async def test_so_is_one_that_was_the_only_other(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "LEASE", 1)
    one = wire.join()
    one.hear({"hub": HUB, "streams": {one._fingerprint("user 7"): 3}})
    assert full(one)
    await until(lambda: not full(one))
    one.hear({"hub": "e" * 32, "ask": True})
    assert one._others == {}


async def test_one_that_ends_says_so(wire: Wire) -> None:
    one, other = wire.join(), wire.join()
    for _ in range(3):
        one.add("7", "")
    await until(lambda: full(other))
    one.end()
    await moments()
    assert not full(other)
    one.discard("7", "")  # a stream of a hub that has ended, which ends a little later
    await until(lambda: one._timer is None)
    assert [bool(message.get("end")) for message in wire.sent].count(True) == 1


async def test_the_last_stream_of_a_hub_is_told_at_once(wire: Wire) -> None:
    """A server that was told to stop has no time."""
    one, other = wire.join(), wire.join()
    for _ in range(3):
        one.add("7", "")
    await until(lambda: full(other))
    for _ in range(3):
        one.discard("7", "")
    await moments()
    assert not full(other)
    for _ in range(3):
        one.add("7", "")
    await until(lambda: full(other))


async def test_a_newcomer_asks(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "INTERVAL", 1000)
    one = wire.join()
    for _ in range(3):
        one.add("7", "")
    await until(wire.counts)
    newcomer = wire.join()
    await until(lambda: full(newcomer))


async def test_one_that_nobody_heard_is_told_by_and_by(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "INTERVAL", 0.1)
    one = wire.join()
    for _ in range(3):
        one.add("7", "")
    await until(wire.counts)
    newcomer = wire.join(asks=False)
    await until(lambda: full(newcomer))


async def test_one_that_hears_again_tells_all(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "INTERVAL", 1000)
    one, other = wire.join(), wire.join()
    wire.cut.add(one)
    for _ in range(3):
        one.add("7", "")
    await until(wire.counts)
    wire.cut.clear()
    assert not full(other)
    one.ask()
    await until(lambda: full(other))


async def test_an_end_that_got_lost_is_made_up_for(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "INTERVAL", 0.1)
    one, other = wire.join(), wire.join()
    for user in ("7", "7", "7", "8"):
        one.add(user, "")
    await until(lambda: full(other))
    wire.cut.add(other)
    one.discard("7", "")
    one.discard("7", "")
    one.discard("7", "")
    before = len(wire.counts())
    await until(lambda: len(wire.counts()) > before)
    wire.cut.clear()
    await until(lambda: not full(other))
    assert other._count(other._fingerprint("user 8")) == 1


async def test_what_is_announced_in_parts_is_never_less_meanwhile(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "INTERVAL", 0.02)
    monkeypatch.setattr(census, "PART", 2)
    one, other = wire.join(), wire.join()
    for user in range(9):
        for _ in range(3):
            one.add(str(user), "")
    await until(lambda: all(full(other, str(user)) for user in range(9)))
    rounds = sum(message["all"] for message in wire.counts())
    hear, seen = other.hear, set()

    def hear_and_look(announcement: dict[str, Any]) -> None:
        hear(announcement)
        seen.add(sum(full(other, str(user)) for user in range(9)))

    monkeypatch.setattr(other, "hear", hear_and_look)
    await until(lambda: sum(message["all"] for message in wire.counts()) > rounds + 3)
    assert seen == {9}


async def test_what_ends_while_all_is_announced_has_ended(wire: Wire) -> None:
    one = wire.join()
    key, *others = (one._fingerprint(f"user {number}") for number in (7, 8, 9))
    one.hear({"hub": HUB, "streams": {key: 3, others[0]: 1}, "all": True})
    one.hear({"hub": HUB, "streams": {others[0]: 1}, "all": True})
    assert full(one)
    one.hear({"hub": HUB, "streams": {key: 0}})
    assert not full(one)
    assert one._others[HUB].size == 1


async def test_many_changes_are_few_announcements(wire: Wire) -> None:
    one, other = wire.join(), wire.join()
    one.add("8", "")
    await until(wire.counts)
    before = len(wire.sent)
    for _ in range(1000):
        one.add("7", "")
        await asyncio.sleep(0)
        one.discard("7", "")
        await asyncio.sleep(0)
    one.add("7", "")
    one.add("7", "")
    one.add("7", "")
    await until(lambda: full(other))
    assert len(wire.sent) - before < 200


async def test_each_fits_into_a_notify(wire: Wire) -> None:
    one, other = wire.join(), wire.join()
    for user in range(2 * PART + 1):
        for _ in range(3):
            one.add(str(user), "")
    await until(lambda: all(full(other, str(user)) for user in range(2 * PART + 1)))
    assert max(len(json.dumps(message)) for message in wire.sent) < 7800


async def test_nobody_can_read_who_it_is(wire: Wire, settings: Any) -> None:
    settings.DJANGO_SSE = {"MAX_STREAMS_PER_ADDRESS": 3}
    one = wire.join()
    one.add("ann@example.org", "192.0.2.77")
    await until(wire.counts)
    (counts,) = {tuple(message["streams"]) for message in wire.counts()}
    assert len(counts) == 2
    settings.SECRET_KEY = "another"
    stranger = Census(Sender(wire))
    assert not set(counts) & {
        stranger._fingerprint(name) for name in ("user ann@example.org", "address 192.0.2.77", "ann@example.org")
    }
    assert "ann" not in json.dumps(wire.sent)
    assert "192" not in "".join(counts)


async def test_one_process_with_one_loop_tells_nobody(wire: Wire) -> None:
    wire.crosses_processes = False
    one = wire.join()
    one.add("7", "")
    one.discard("7", "")
    one.add("7", "")
    await until(lambda: one._timer is None)
    assert len(wire.sent) == 1, "whether there is a second loop; after that it does not even wake up"
    one.add("8", "")
    assert one._timer is None
    other = wire.join()  # a second loop
    other.add("7", "")
    other.add("7", "")
    await until(lambda: full(one) and full(other))


async def test_one_loop_that_hears_of_a_second_one_answers(wire: Wire) -> None:
    """Whose question came before it listened."""
    wire.crosses_processes = False
    one = wire.join()
    one.add("7", "")
    await until(lambda: one._timer is None)
    wire.sent.clear()
    one.hear({"hub": HUB, "streams": {"a" * 12: 1}})
    await until(wire.counts)


async def test_changes_without_end_do_not_put_it_off(wire: Wire) -> None:
    one = wire.join(asks=False)
    one.add("7", "")
    for _ in range(1000):
        one.add("8", "")
        await asyncio.sleep(0)
        if wire.counts():
            break
    else:
        pytest.fail("nothing was announced")


async def test_without_a_limit_nothing_is_told(wire: Wire, settings: Any) -> None:
    settings.DJANGO_SSE = {"MAX_STREAMS_PER_USER": None}
    one = wire.join()
    one.add("7", "192.0.2.1")
    one.hear({"hub": HUB, "streams": {"a" * 12: 1}, "ask": True})
    await moments()
    assert wire.sent == []
    assert one._timer is None
    assert one._others == {}


async def test_an_idle_hub_is_quiet(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "INTERVAL", 0.02)
    one = wire.join()
    one.add("7", "")
    await until(lambda: len(wire.counts()) > 2)
    one.discard("7", "")
    sent = len(wire.sent)
    await until(lambda: one._timer is None)
    assert len(wire.sent) == sent


async def test_who_asks_without_end_is_answered_now_and_then(wire: Wire) -> None:
    one = wire.join()
    one.add("7", "")
    await until(wire.counts)
    before = len(wire.sent)
    for _ in range(1000):
        one.hear({"hub": HUB, "ask": True})
        await asyncio.sleep(0)
    assert len(wire.sent) <= before + 1


async def test_a_forked_child_does_not_speak_for_its_parent(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = wire.join(), wire.join()
    for _ in range(3):
        one.add("7", "")
    await until(lambda: full(other))
    sent = len(wire.sent)
    monkeypatch.setattr(os, "getpid", lambda: 1)
    for _ in range(3):
        one.discard("7", "")
    one.end()
    await moments()
    assert len(wire.sent) == sent


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"hub": 7},
        {"hub": "short"},
        {"hub": HUB, "streams": [1]},
        {"hub": HUB, "streams": {"a": 1}},
        {"hub": HUB, "streams": {"a" * 12: "1"}},
        {"hub": HUB, "streams": {"a" * 12: True}},
        {"hub": HUB, "streams": {"a" * 12: 1.5}},
        {"hub": HUB, "streams": {"a" * 12: -1}},
        {"hub": HUB, "streams": {"a" * 12: 10**9}},
        {"hub": HUB, "streams": {f"{number:012}": 1 for number in range(PART + 1)}},
    ],
)
async def test_strangers_words_are_no_announcement(wire: Wire, words: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"announcement|count"):
        wire.join().hear(words)


async def test_what_strangers_tell_is_bounded(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(census, "MOST", 10 * PART)
    one = wire.join()
    for number in range(20 * PART):
        counts = {f"{number * PART + key:012}": 1 for key in range(PART)}
        one.hear({"hub": f"{number:032}", "streams": counts})
    assert sum(other.size for other in one._others.values()) == 10 * PART
    one._others.clear()
    for number in range(HUBS + 10):
        one.hear({"hub": f"{number:032}", "streams": {"a" * 12: 1}})
    assert len(one._others) == HUBS
