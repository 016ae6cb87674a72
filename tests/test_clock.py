"""One timer for many, each at a time of its own."""

from __future__ import annotations

import asyncio
import gc
import weakref

from django_sse.clock import Clock


class Sleeper:
    def __init__(self, name: str, told: list[str]) -> None:
        self.name = name
        self.told = told
        self.rung = asyncio.Event()

    def tick(self) -> None:
        self.told.append(self.name)
        self.rung.set()


async def test_each_is_told_when_its_time_has_come() -> None:
    loop = asyncio.get_running_loop()
    told: list[str] = []
    late, early, middle = (Sleeper(name, told) for name in ("late", "early", "middle"))
    now = loop.time()
    for sleeper, seconds in ((late, 0.03), (early, 0.01), (middle, 0.02)):
        Clock.current().tell(sleeper, now + seconds)
    await late.rung.wait()
    assert told == ["early", "middle", "late"]
    assert loop.time() >= now + 0.03


async def test_who_cancelled_is_not_told_and_not_kept() -> None:
    now = asyncio.get_running_loop().time()
    told: list[str] = []
    gone, other = Sleeper("gone", told), Sleeper("other", told)
    alarm = Clock.current().tell(gone, now + 0.01)
    Clock.current().tell(other, now + 0.02)
    alarm.cancel()
    kept = weakref.ref(gone)
    del gone
    gc.collect()
    assert kept() is None
    await other.rung.wait()
    assert told == ["other"]


async def test_one_that_is_told_may_ask_again() -> None:
    told: list[str] = []

    class Again(Sleeper):
        def tick(self) -> None:
            super().tick()
            if len(told) < 3:
                self.rung.clear()
                Clock.current().tell(self, asyncio.get_running_loop().time())

    again = Again("again", told)
    Clock.current().tell(again, asyncio.get_running_loop().time())
    while len(told) < 3:
        await again.rung.wait()
        await asyncio.sleep(0)
    assert told == ["again"] * 3


def test_each_loop_has_its_own() -> None:
    async def current() -> Clock:
        return Clock.current()

    assert asyncio.run(current()) is not asyncio.run(current())
