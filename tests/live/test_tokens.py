"""A text of 2,000 tokens from another process: for pages that are reloaded, cut, and left without a server."""

from __future__ import annotations

import json
import random
import signal
from uuid import uuid4

import pytest

from tests.live.client import Client
from tests.live.conftest import QUICK_POLL, SERVERS
from tests.live.generator import generator

TOKENS = 2000
PAUSE = 0.002
RELOADS = 50


class Page:
    """What a page shows: it applies each event by its offset, as the documentation's lines do."""

    def __init__(self, whole: str, since: int) -> None:
        self.whole = whole
        self.since = since
        """Where the log was before the first word: read later, the first words may be before it."""
        self.last: int | None = None
        self.reload()

    def reload(self) -> None:
        """Forget everything; the address still says where the text began."""
        self.text, self.reason, self.last = "", None, None

    def connect(self, server, channel: str) -> Client:
        if self.last is not None:
            return Client(server, [channel], self.last)
        return Client(server, [channel], self.since, by="since")

    def take(self, client: Client) -> None:
        """Show what came since the last look: at any moment a beginning of the text, without a hole or a repetition."""
        for block in client.blocks:
            if block.type in ("token", "done"):
                data = json.loads(block.data)
                units = self.text.encode("utf-16-le")
                assert 2 * data["at"] <= len(units), "a hole"
                self.text = units[: 2 * data["at"]].decode("utf-16-le") + data["text"]
                assert self.whole.startswith(self.text)
                self.reason = data.get("reason")
            assert block.type != "sse.reset", block
        client.blocks.clear()
        self.last = int(client.parser.id) if client.parser.id else self.last

    def follow(self, client: Client, length: int | None = None) -> None:
        """Read until so much is there, or to the end of the text."""

        def enough() -> bool:
            self.take(client)
            return self.reason is not None or (length is not None and len(self.text) >= length)

        client.until(enough, "the text goes on")


@pytest.mark.parametrize("server", SERVERS)
def test_reloaded_again_and_again_nothing_is_lost_or_repeated(server, database, start):
    channel, head = f"public.{uuid4().hex}", database.head()
    with (
        start(server, database, POLL_INTERVAL=QUICK_POLL, RING_SIZE=20) as running,
        generator(database, channel, TOKENS, PAUSE) as producer,
    ):
        page = Page(producer.text, head)
        shown = []
        for number, length in enumerate(sorted(random.sample(range(len(producer.text)), RELOADS))):
            # A reload forgets the text; a cut connection keeps it and comes back with the last event ID.
            if number % 2:
                page.reload()
            client = page.connect(running, channel)
            page.follow(client, length)
            random.choice([client.leave, client.vanish])()
            shown.append(len(page.text))
        assert len(set(shown)) > RELOADS / 3, "the reloads did not fall into the text"
        client = page.connect(running, channel)
        page.follow(client)
        assert (page.text, page.reason) == (producer.text, "end")
        client.leave()
        assert producer.over() == "end"

        # Who comes when all is over gets the text in one event.
        page.reload()
        client = page.connect(running, channel)
        page.follow(client)
        assert page.text == producer.text
        client.leave()
    rows = database.query(f"SELECT COUNT(*) FROM django_sse_event WHERE channel = '{channel}'")
    assert rows == [(1,)]


@pytest.mark.parametrize("server", SERVERS)
def test_the_web_process_may_end_in_between(server, database, start):
    channel, head = f"public.{uuid4().hex}", database.head()
    with generator(database, channel, TOKENS, PAUSE) as producer:
        pages = [Page(producer.text, head) for _ in range(3)]
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            with start(server, database, POLL_INTERVAL=QUICK_POLL) as running:
                clients = [page.connect(running, channel) for page in pages]
                for page, client in zip(pages, clients, strict=True):
                    page.follow(client, len(page.text) + 500)
                running.stop(number)
                for page, client in zip(pages, clients, strict=True):
                    client.over()
                    page.take(client)
                    client.leave()
            pages[0].reload()
        with start(server, database, POLL_INTERVAL=QUICK_POLL) as running:
            for page in pages:
                client = page.connect(running, channel)
                page.follow(client)
                assert (page.text, page.reason) == (producer.text, "end")
                client.leave()
        assert producer.over() == "end"


def test_stopped_from_another_process(database, start):
    channel, head = f"public.{uuid4().hex}", database.head()
    with (
        start("uvicorn", database, POLL_INTERVAL=QUICK_POLL) as running,
        generator(database, channel, 10**6, PAUSE) as producer,
    ):
        page = Page(producer.text, head)
        client = page.connect(running, channel)
        page.follow(client, 20)
        assert page.reason is None
        database.manage("shell", "-c", f"from django_sse.tokens import stop_tokens; stop_tokens('{channel}')")
        page.follow(client)
        assert page.reason == "stopped"
        assert 0 < len(page.text) < len(producer.text)
        client.leave()
        assert producer.over() == "stopped"
