"""Random schedules, judged: nothing is lost, made up, repeated, out of order or silently skipped."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import AsyncClient
from django.urls import path

from django_sse import retention
from django_sse.hub import Hub
from django_sse.views import event_stream
from tests.checker import Connection, Parser, judge
from tests.live import views
from tests.live.client import Client, arrival, ticks
from tests.live.schedule import PUBLISH, Step, make_schedule
from tests.server import DEADLINE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from django.http import HttpRequest

    from tests.live.schedule import Schedule

IN_PROCESS = 1000
PER_TEST = 50
PER_SERVER = 15
RING = {"RING_SIZE": 5, "HEARTBEAT": 0.05, "POLL_INTERVAL": 0.2}
"""A ring so small that clients fall out of it, and marks between any two events."""


async def stream(request: HttpRequest):
    return await event_stream(request, request.GET.getlist("channel"))


urlpatterns = [path("events/", stream)]


class Browser:
    """A client in this process: it comes back with the last event ID that it saw."""

    def __init__(self, name: str, channels: frozenset[str], book) -> None:
        self.name = name
        self.channels = channels
        self.book = book
        self.last: int | None = None
        self.log: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()
        self._reads = asyncio.Event()

    async def connect(self, last: int | None = None) -> None:
        if self._task:
            return
        self.log = Connection(self.name, self.channels, self.last if last is None else last)
        self.book.clients.append(self.log)
        presented = {} if self.log.presented is None else {"Last-Event-ID": str(self.log.presented)}
        query = {"channel": sorted(self.channels)}
        response = await AsyncClient().get("/events/", query, headers=presented)
        assert response.status_code == 200
        self._reads.set()
        self._task = asyncio.create_task(self._read(response.streaming_content, self.log))
        async with asyncio.timeout(DEADLINE):
            await self.until(lambda: self.log.opened)

    async def leave(self) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def stall(self) -> None:
        self._reads.clear()

    def resume(self) -> None:
        self._reads.set()

    async def reaches(self, position: int) -> None:
        """Wait until the client's id is at ``position``; a little later give up: the judge says what was lost."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                await self.until(lambda: self.last is not None and self.last >= position)

    async def until(self, condition) -> None:
        while not condition():
            self._moved.clear()
            await self._moved.wait()

    async def _read(self, body: AsyncIterator[bytes], log: Connection) -> None:
        parser = Parser()
        async for data in body:
            for block in parser.feed(data):
                if block.id:
                    log.arrivals.append(arrival(block))
                    self.last = log.arrivals[-1].id
                    log.opened = log.opened or next(ticks)
            self._moved.set()
            await self._reads.wait()
            await asyncio.sleep(0)  # else a stream that repeats itself for ever would starve the deadline


def publish(step: Step, book) -> list[str]:
    made = [
        book.note(channel, "committed" if place < kept(step) else "rolled back")
        for place, channel in enumerate(step.channels)
    ]
    views.PUBLISH[step.do]([(publication.channel, publication.uuid) for publication in made])
    return book.end(*made)


def kept(step: Step) -> int:
    return {"rolled-back": 0, "savepoint": 1}.get(step.do, len(step.channels))


def look_up(book) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT data, position FROM django_sse_event")
        positions = dict(cursor.fetchall())
    for publication in book.publications:
        publication.position = positions.get(publication.uuid, publication.position)


def note_floor(tick: int, book) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT floor FROM django_sse_head")
        book.trims += [(tick, floor) for (floor,) in cursor.fetchall()]


def trim(step: Step, book) -> None:
    if step.channels:
        publish(step._replace(do="batch"), book)
    look_up(book)
    tick = next(ticks)
    retention.trim(keep=step.keep)
    note_floor(tick, book)


async def run(schedule: Schedule, book) -> None:
    browsers = [Browser(f"client {n}", channels, book) for n, channels in enumerate(schedule.clients)]
    await sync_to_async(note_floor)(0, book)  # other schedules have trimmed the same log
    for step in schedule.steps:
        if step.do in PUBLISH:
            await sync_to_async(publish)(step, book)
        elif step.do == "trim":
            await sync_to_async(trim)(step, book)
        elif step.do == "connect":
            await browsers[step.client].connect()
        elif step.do in ("leave", "vanish"):
            await browsers[step.client].leave()
        else:
            getattr(browsers[step.client], step.do)()
    await settle(browsers, book)
    # Once more from the beginning: the whole of what is left, or a reset that says it cannot be had.
    firsts = {browser.name: browser.log.presented or 0 for browser in browsers}
    for browser in browsers:
        await browser.leave()
        await browser.connect(firsts[browser.name])
    await settle(browsers, book)
    for browser in browsers:
        await browser.leave()


async def settle(browsers: list[Browser], book) -> None:
    """Everybody connects, a last event goes to every channel, and everybody waits for it."""
    for browser in browsers:
        await browser.connect()
        browser.resume()
    channels = sorted(frozenset().union(*(browser.channels for browser in browsers)))
    await sync_to_async(publish)(Step("batch", tuple(channels)), book)
    await sync_to_async(look_up)(book)
    for browser in browsers:
        last = book.publications[-len(channels) :]
        await browser.reaches(max(p.position for p in last if p.channel in browser.channels))
        browser.log.settled = next(ticks)


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls(__name__)
@pytest.mark.parametrize("first", range(0, IN_PROCESS, PER_TEST))
async def test_random_schedules(first, make_book, settings, monkeypatch):
    settings.DJANGO_SSE = RING
    settings.MIDDLEWARE = []
    if connection.vendor == "sqlite":  # it need not survive a power cut
        command = "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF"
        monkeypatch.setitem(connection.settings_dict["OPTIONS"], "init_command", command)
    replays = []
    replay = Hub.replay

    async def counted(*args):
        replays.append(1)
        return await replay(*args)

    monkeypatch.setattr(Hub, "replay", counted)
    for seed in range(first, first + PER_TEST):
        book = make_book()
        schedule = make_schedule(seed)
        await run(schedule, book)
        await sync_to_async(look_up)(book)
        faults = judge(book.publications, book.clients, book.trims)
        assert not faults, f"seed {seed}:\n" + "\n".join(map(str, [*faults, *schedule.steps]))
        assert all(p.position for p in book.publications if p.outcome == "committed")
    # Else the ring alone would have been tried.
    assert replays


@pytest.mark.parametrize("part", range(PER_SERVER))
def test_random_schedules_on_real_servers(site, part, book):
    schedule = make_schedule(IN_PROCESS + part)
    clients: dict[int, Client] = {}
    last: dict[int, int] = {}
    every: list[Client] = []
    book.trims.append((0, site.database.floor()))

    def leave(number: int, how: str = "leave") -> None:
        if client := clients.pop(number, None):
            last[number] = client.last
            getattr(client, how)()

    def open_(number: int) -> Client:
        if number not in clients:
            channels = schedule.clients[number]
            clients[number] = Client(site.server, channels, last.get(number), name=f"client {number}").opened()
            every.append(clients[number])
        return clients[number]

    try:
        for step in schedule.steps:
            if step.do in PUBLISH:
                book.post(site.server, step.do, step.channels, kept=kept(step))
            elif step.do == "trim":
                if step.channels:
                    book.post(site.server, "batch", step.channels)
                book.look_up(site.database)
                tick = next(ticks)
                assert site.server.request("POST", f"/trim/{step.keep}/", b"")[0] == 200
                book.trims.append((tick, site.database.floor()))
            elif step.do == "connect":
                open_(step.client)
            elif step.do in ("leave", "vanish"):
                leave(step.client, step.do)
            elif step.client in clients:  # stall and resume: a client reads only when it must, here until it has all
                clients[step.client].has(*seen_by(clients[step.client], book))
        for number in range(len(schedule.clients)):
            open_(number)
        channels = sorted(frozenset().union(*schedule.clients))
        texts = dict(zip(channels, book.post(site.server, "atomic", channels), strict=True))
        for client in clients.values():
            client.has(*(texts[channel] for channel in client.log.channels)).settle()
        book.judge(site.database, *every)
    finally:
        for client in every:
            client.leave()


def seen_by(client: Client, book) -> list[str]:
    """The last event that has been published while this client was connected, if there is one."""
    due = [
        publication.uuid
        for publication in book.publications
        if publication.outcome == "committed"
        and publication.channel in client.log.channels
        and publication.begun > client.log.opened
    ]
    return due[-1:]
