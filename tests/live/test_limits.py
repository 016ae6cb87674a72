"""Platforms that end every response after so many seconds: here that is a proxy, and it ends a hundred of them."""

from __future__ import annotations

import random
from threading import Event, Thread, Timer

import pytest

from tests.live.client import Client
from tests.live.conftest import QUICK_POLL
from tests.proxy import proxy_to

ENDS = 100
LIMIT = 0.15
"""Seconds that the platform leaves a response; ten, where it is a real one."""


@pytest.mark.parametrize("max_age", [3600, LIMIT / 2], ids=["cut by the platform", "ended by MAX_AGE"])
def test_a_hundred_forced_ends_lose_nothing(max_age, database, start, book):
    with (
        start("uvicorn", database, POLL_INTERVAL=QUICK_POLL, RING_SIZE=20, MAX_AGE=max_age) as running,
        proxy_to("127.0.0.1", running.port) as platform,
    ):
        last, clients, enough = database.head(), [], Event()

        def publish() -> None:
            while not enough.wait(random.uniform(0, 0.01)):
                book.post(running, "each", ["public.a"] * random.randrange(1, 4))

        publishing = Thread(target=publish)
        publishing.start()
        try:
            for number in range(ENDS):
                client = Client(platform, ["public.a"], last, name=f"connection {number}")
                # Wherever it is, also in the middle of a frame. Only those that have an age to end by get there first.
                limit = Timer(LIMIT if max_age > 1 else 30, platform.cut)
                limit.start()
                client.over().leave()
                limit.cancel()
                limit.join()
                last = client.last
                clients.append(client)
        finally:
            enough.set()
            publishing.join()
        forced = [client.cut if max_age > 1 else client.ended for client in clients]
        assert sum(forced) > 0.9 * ENDS
        (text,) = book.post(running, "each", ["public.a"])
        while text not in clients[-1].texts:  # by MAX_AGE, these end too
            client = Client(running, ["public.a"], last, name="one of the last")
            client.until(lambda client=client: text in client.texts or client.ended, "the last event, or the end")
            client.leave()
            last = client.last
            clients.append(client)
        clients[-1].settle()
        assert [text for client in clients for text in client.texts] == [one.uuid for one in book.publications]
        book.judge(database, *clients)
