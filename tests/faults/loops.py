"""One program that streams and publishes in several event loops, threads and forked children.

``python -m tests.faults.loops loops|fork``. Prints what it published and received, a JSON object a line.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import sys
import threading
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING
from uuid import uuid4

import django
from asgiref.sync import ThreadSensitiveContext

from tests.checker import Connection, Parser, Publication
from tests.live.client import arrival, ticks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

EVENTS = 20
SECONDS = 25
"""Far less than a poll of the brokers that cross processes, which is 60 s here: the doorbell must be heard."""
CHILDREN = 4
_printing = threading.Lock()


def _print(kind: str, thing: Connection | Publication) -> None:
    fields = asdict(thing)
    if isinstance(thing, Connection):
        fields["channels"] = sorted(thing.channels)
    with _printing:
        os.write(1, (json.dumps({kind: fields}) + "\n").encode())


def publish(channel: str, count: int = EVENTS) -> set[str]:
    """From whatever thread this is. Returns the texts."""
    from django_sse import send_event

    texts = set()
    for _ in range(count):
        made = Publication(channel, uuid4().hex[:16], "committed", begun=next(ticks))
        assert send_event(channel, text=made.uuid) is not None
        made.ended = next(ticks)
        texts.add(made.uuid)
        _print("publication", made)
    return texts


async def apublish(channel: str, count: int = EVENTS) -> None:
    """From inside of a running loop."""
    from django.core.exceptions import SynchronousOnlyOperation

    from django_sse import asend_event, send_event

    try:
        send_event(channel, text="never")
    except SynchronousOnlyOperation:
        pass
    else:
        raise AssertionError("send_event() in a loop was to be refused")
    for _ in range(count):
        made = Publication(channel, uuid4().hex[:16], "committed", begun=next(ticks))
        assert await asend_event(channel, text=made.uuid) is not None
        made.ended = next(ticks)
        _print("publication", made)


async def read(name: str, channel: str, count: int, opened: Callable[[], object], early: Collection[str] = ()) -> None:
    """Read until ``count`` events have come. ``early`` ones do not count: they were published before, and may or may
    not be numbered yet when the stream opens."""
    from django_sse.stream import Stream

    log, parser = Connection(name, frozenset([channel])), Parser()
    stream = await Stream.open([channel], None)
    async with asyncio.timeout(SECONDS), aclosing(aiter(stream)) as pieces:
        async for data in pieces:
            log.arrivals += [arrival(block) for block in parser.feed(data) if block.id]
            if not log.opened:
                log.opened = next(ticks)
                opened()
            if sum(one.uuid is not None and one.uuid not in early for one in log.arrivals) >= count:
                break
    log.settled = next(ticks)
    _print("connection", log)


async def read_and_publish(name: str, channel: str, count: int) -> None:
    opened = asyncio.Event()
    reading = asyncio.create_task(read(name, channel, count, opened.set))
    await opened.wait()
    await apublish(channel)
    await reading


def in_a_thread(work: Callable[[], object]) -> threading.Thread:
    from django.db import connections

    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def loops() -> None:
    """Three loops after each other, then three at a time in threads, with publishers everywhere."""
    for number in range(3):
        asyncio.run(read_and_publish(f"loop {number}", f"public.{number}", EVENTS))
    barrier = threading.Barrier(4)

    def reader(number: int) -> None:
        asyncio.run(read(f"thread {number}", "public.all", 3 * EVENTS, barrier.wait))

    threads = [in_a_thread(lambda number=number: reader(number)) for number in range(3)]
    barrier.wait(SECONDS)
    threads.append(in_a_thread(lambda: publish("public.all")))
    publish("public.all")
    asyncio.run(apublish("public.all"))
    for thread in threads:
        thread.join(SECONDS)
        assert not thread.is_alive()


def fork() -> None:
    """A program that has streamed and published has children, which do so too, while it goes on."""
    from django.db import connections

    asyncio.run(read_and_publish("parent", "public.parent", EVENTS))
    in_a_thread(lambda: publish("public.parent")).join()
    connections.close_all()  # as every program that forks must
    ours, theirs = os.pipe()
    children = []
    for number in range(CHILDREN):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                channel = f"public.{number}"
                early = publish(channel)  # a worker of a queue: no loop at all
                connections.close_all()

                async def child(channel: str = channel, number: int = number, early: set[str] = early) -> None:
                    opened = asyncio.Event()

                    def say() -> None:
                        os.write(theirs, b".")
                        opened.set()

                    # As Django's ASGI handler does: asgiref's own thread was the parent's and is not here.
                    async with ThreadSensitiveContext():
                        reading = asyncio.create_task(read(f"child {number}", channel, 2 * EVENTS, say, early))
                        await opened.wait()
                        await apublish(channel)
                        await reading

                asyncio.run(child())
                status = 0
            except BaseException as error:
                print(f"child {number}: {error!r}", file=sys.stderr, flush=True)  # noqa: T201
            finally:
                os._exit(status)
        children.append(pid)
    for _ in children:
        os.read(ours, 1)
    for number in range(CHILDREN):
        publish(f"public.{number}")
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0, "a child has failed"


if __name__ == "__main__":
    faulthandler.dump_traceback_later(2 * SECONDS, exit=True)
    django.setup()
    {"loops": loops, "fork": fork}[sys.argv[1]]()
