"""Odd names, ids and payloads through the real view. ``python -m tests.security.fuzz 1000000`` runs so many by hand.

Every answer is 200, 400 or 403. What a 200 carries is read as the standard says, and must be exactly the events of the
channels that were asked for, none of anybody else's, none that was not published.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, urlencode

from tests.checker import Parser

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Fuzzer", "Sent", "odd_ids", "odd_names", "odd_payloads"]

ME = "7"
OTHERS = ("user.8", "user.70", "secret.a", "orders", "staff.a")
"""Channels that nobody here may read."""
MINE = ("public.a", "public.b.c", f"user.{ME}")
CANARY = "canary of somebody else"
PIECES = (
    *(
        "\r",
        "\n",
        "\r\n",
        "\n\n",
        "\0",
        "\x10",
        "\x100",
        "\ufeff",
        "\u2028",
        "\u2029",
        "\x85",
        "\x0b",
        "\x0c",
        "\x1c",
        " ",
    ),
    *(
        "data: forged",
        "event: forged",
        "id: 99",
        "retry: 1",
        ":",
        "data",
        "sse.reset",
        "sse.close",
        "\u202e",
        "\ufffd",
        "\x7f",
    ),
    *(
        "é",
        "✓",
        "\U0001f600",
        "e\u0301",
        "\U0010ffff",
        "'",
        '"',
        "\\",
        "<script>",
        "${x}",
        "{{ 7|add:7 }}",
        "%0a",
        "%00",
        "&",
    ),
    *(
        "channel=",
        "#",
        ";",
        "../",
        "*",
        "?",
        "+",
        "~",
        "_",
        "-",
        ".",
        "%",
        ",",
        "!control",
        "public.",
        "user.",
        ME,
        "8",
        "a",
    ),
)
NUMBERS = (
    *(
        "-1",
        "+1",
        "0",
        "00",
        "1",
        "01",
        "1.0",
        "1e3",
        "0x1",
        "1_0",
        "1,2",
        " 1",
        "1 ",
        "²",
        "\u0661",
        "\uff11",
        "NaN",
        "\x00",
    ),
    *(str(2**n + d) for n in (31, 32, 53, 63, 64) for d in (-1, 0, 1)),
    *("9" * n for n in (18, 19, 20, 100, 6000)),
)


class Sent(NamedTuple):
    position: int
    channel: str
    type: str
    data: str


def odd_text(chance: random.Random, most: int = 6) -> str:
    """Return pieces that hurt, and characters of every plane but the surrogates."""
    parts = []
    for _ in range(chance.randrange(most)):
        number = chance.randrange(0x110000)
        parts.append(chance.choice(PIECES) if chance.random() < 0.7 or 0xD800 <= number < 0xE000 else chr(number))
    return "".join(parts)


def odd_names(chance: random.Random) -> list[str]:
    """Return the channels of one request: legal, foreign, nearly legal, and nothing of the kind."""
    names = []
    for _ in range(chance.choice((0, 1, 1, 1, 2, 3, 20, 21))):
        name = chance.choice((*MINE, *MINE, *OTHERS, "public.x", "!control", ""))
        if (kind := chance.random()) < 0.2:
            name += odd_text(chance, 3)
        elif kind < 0.3:
            at = chance.randrange(len(name) + 1)
            name = name[:at] + odd_text(chance, 2) + name[at:]
        elif kind < 0.35:
            name = odd_text(chance)
        elif kind < 0.4:
            name = name.swapcase() if chance.random() < 0.5 else name.replace(".", "\uff0e")
        names.append(name)
    return names


def odd_ids(chance: random.Random, head: int) -> str | None:
    """Return a last event ID; None is none."""
    kind = chance.random()
    if kind < 0.1:
        return None
    if kind < 0.6:
        return str(chance.randrange(head + 2))
    return chance.choice(NUMBERS) if kind < 0.9 else odd_text(chance)


def odd_payloads(chance: random.Random) -> dict[str, Any]:
    """Return what may be given to ``send_event``, or may not."""
    text = odd_text(chance, 12)
    content = {"text": text} if chance.random() < 0.5 else {"data": {odd_text(chance): [text, chance.random()]}}
    return {"event_type": odd_text(chance, 3) or None, **content}


class Fuzzer:
    """Asks the view, and remembers what was published."""

    def __init__(self) -> None:
        from django.contrib.auth.models import AnonymousUser, User
        from django.test import AsyncRequestFactory

        from django_sse.views import EventStreamView

        self._view = EventStreamView.as_view()
        self._factory = AsyncRequestFactory()
        self._users = (AnonymousUser(), User(pk=int(ME)))
        self.sent: list[Sent] = []
        self.counts: Counter[str] = Counter()

    async def publish(self, channel: str, **content: Any) -> None:
        """Publish, or be refused: then nothing may have been stored."""
        from django_sse import asend_event

        try:
            event = await asend_event(channel, **content)
        except ValueError:
            self.counts["payloads refused"] += 1
            return
        assert event
        assert event.position
        self.sent.append(Sent(event.position, event.channel, event.type, event.data))
        self.counts["payloads published"] += 1

    async def ask(self, names: Iterable[str], last: str | None, *, header: bool, logged_in: bool) -> int:
        """Ask once and judge the answer; return its status."""
        from django.core.exceptions import SuspiciousOperation

        names = list(names)
        query = urlencode([("channel", name) for name in names])
        headers = {}
        if last is not None and header and "\n" not in last and "\r" not in last and "\0" not in last:
            headers["Last-Event-ID"] = last.encode().decode("latin-1")
        elif last is not None:
            query += "&since=" + quote(last)
        request: Any = self._factory.get("/events/?" + query, headers=headers)
        user = request.user = self._users[logged_in]

        async def auser() -> Any:
            return user

        request.auser = auser
        self.counts["requests"] += 1
        self.counts["names"] += len(names)
        self.counts["ids"] += last is not None
        try:
            response: Any = await self._view(request)
        except SuspiciousOperation:
            return 400
        assert response.status_code in (200, 400, 403), (response.status_code, names, last)
        self.counts[f"answered {response.status_code}"] += 1
        if response.status_code != 200:
            return int(response.status_code)
        allowed = {"public.", f"user.{ME}"} if logged_in else {"public."}
        assert all(name.startswith("public.") or name in allowed for name in names), names
        await self._judge(response, set(names), last)
        return 200

    async def _judge(self, response: Any, names: set[str], last: str | None) -> None:
        head = max((one.position for one in self.sent), default=0)
        pieces = aiter(response.streaming_content)
        parser = Parser()
        body = await anext(pieces)
        received = [block for block in parser.feed(body) if block.type is not None]
        expected: list[tuple[str, str, str]] = []
        if last and not (last.isascii() and last.isdecimal() and str(int(last[:30])) == last and int(last) <= head):
            assert [block.type for block in received] == ["sse.reset"], (last, received)
            received = []
        elif last:
            due = [one for one in self.sent if one.channel in names and one.position > int(last)]
            expected = [(one.type, lines(one.data), str(one.position)) for one in due]
        while len(received) < len(expected):
            piece = await asyncio.wait_for(anext(pieces), 30)
            received += [block for block in parser.feed(piece) if block.type is not None]
        assert [tuple(block) for block in received] == expected, (names, last)
        assert not any(CANARY in block.data for block in received)
        self.counts["events received"] += len(received)
        await pieces.aclose()
        await response._iterator.aclose()


def lines(data: str) -> str:
    """Return ``data`` as it arrives: every line end is LF, and NUL and the rest are themselves."""
    return data.replace("\r\n", "\n").replace("\r", "\n")


async def _run(number: int, seed: int) -> None:
    chance = random.Random(seed)
    fuzzer = Fuzzer()
    for channel in OTHERS:
        await fuzzer.publish(channel, text=CANARY)
    begun = time.monotonic()
    while fuzzer.counts["requests"] < number:
        if fuzzer.counts["requests"] % 200 == 0:
            await fuzzer.publish(chance.choice(MINE), **odd_payloads(chance))
            if len(fuzzer.sent) > 60:  # the newest are enough to judge by
                fuzzer.sent = fuzzer.sent[-30:]
        head = fuzzer.sent[-1].position
        last = odd_ids(chance, head)
        if last and last.isascii() and last.isdecimal() and len(last) < 9 and int(last) < fuzzer.sent[0].position - 1:
            last = str(fuzzer.sent[0].position - 1)
        await fuzzer.ask(odd_names(chance), last, header=chance.random() < 0.5, logged_in=chance.random() < 0.5)
        if fuzzer.counts["requests"] % 50_000 == 0:
            print(int(time.monotonic() - begun), dict(fuzzer.counts), flush=True)  # noqa: T201
    print(f"seed {seed}, {time.monotonic() - begun:.0f} s:", dict(fuzzer.counts))  # noqa: T201


def _main() -> None:
    import logging

    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
        import django
        from django.conf import settings

        settings.DATABASES["default"]["NAME"] = f"{folder}/fuzz.sqlite3"
        django.setup()
        logging.disable(logging.WARNING)
        from django.core.management import call_command

        call_command("migrate", verbosity=0)
        settings.DJANGO_SSE = {"MAX_REPLAY": None, "MAX_STREAMS_PER_USER": None, "RECHECK": None}
        asyncio.run(_run(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))


if __name__ == "__main__":
    _main()
