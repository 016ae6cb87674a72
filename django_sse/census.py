"""How many streams each client has in all processes together, and whether that is too many.

Every hub announces its own counts through the broker: changes at once, and all of them every few seconds. It keeps
what the others announced until their lease ends. So opening a stream asks nobody, and who was killed is forgotten.
Where announcements do not arrive, a limit is one of each process; where they are late, a few streams more get in.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
from base64 import b64encode
from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final, Protocol
from uuid import uuid4

from django.utils.crypto import salted_hmac

from django_sse.conf import settings

if TYPE_CHECKING:
    from asyncio import TimerHandle
    from collections.abc import Iterator

__all__ = ["Announcer", "Census"]

INTERVAL: Final = 5.0
"""Seconds after which all is announced again; each time 70 to 100 % of it."""
LEASE: Final = 3 * INTERVAL
"""Seconds for which an announcement counts."""
PAUSE: Final = 0.2
"""Seconds between two announcements: what changes meanwhile is told together."""
ANSWER: Final = 1.0
"""Seconds between two announcements of all, however many hubs ask for it."""
PART: Final = 300
"""Counts in one announcement, so that it fits into a NOTIFY."""
MOST: Final = 250_000
"""Counts of other hubs that are kept. What does not fit is not counted."""
HUBS: Final = 1000
"""Other hubs whose counts are kept."""


class Announcer(Protocol):
    """A broker, as a census sees it."""

    crosses_processes: bool

    def announce(self, announcement: dict[str, Any]) -> None:
        """Hand it to every hub."""


class Census:
    """The counts of one hub, and what it knows of the others'. Everything happens in the hub's event loop."""

    def __init__(self, broker: Announcer) -> None:
        self._broker = broker
        self._id = uuid4().hex
        self._pid = os.getpid()
        self._secret = salted_hmac("django_sse.census", "", algorithm="sha256").digest()
        self._loop = asyncio.get_running_loop()
        self._own: Counter[str] = Counter()
        self._others: dict[str, _Other] = {}
        self._is_heard = broker.crosses_processes
        """Whether there may be another hub; with one process and one event loop there is none."""
        self._changed: set[str] = set()
        """Whose counts are to be announced."""
        self._asks = False
        self._has_told = False
        """Whether others count streams of ours."""
        self._announced_at = self._all_told_at = -math.inf
        self._all_at = self._due = -math.inf
        """When all is to be announced again, and when the timer goes off."""
        self._timer: TimerHandle | None = None

    def is_full(self, user: str | None, address: str) -> bool:
        """Tell whether one more stream of ``user``, or from ``address``, would be one too many."""
        return any(self._count(key) >= limit for key, limit in self._limits(user, address))

    def add(self, user: str | None, address: str) -> None:
        """A stream of ``user``, from ``address``, has been opened in this hub."""
        for key, _ in self._limits(user, address):
            self._own[key] += 1
            self._note(key)

    def discard(self, user: str | None, address: str) -> None:
        """A stream that was added has ended."""
        for key, _ in self._limits(user, address):
            if self._own[key] > 1:
                self._own[key] -= 1
            else:
                self._own.pop(key, None)
            self._note(key)
        if not self._own:
            self.end()

    def ask(self) -> None:
        """Ask the others for their counts, and tell ours: something may have been announced and not been heard."""
        if _is_limited():
            self._asks, self._all_at = True, -math.inf
            self._plan(self._announced_at + PAUSE)

    def end(self) -> None:
        """Tell the others at once that there is no stream in this hub any more."""
        self._own.clear()
        self._changed.clear()
        if self._has_told:
            self._announce({"end": True})
        self._has_told, self._all_at = False, -math.inf

    def hear(self, announcement: dict[str, Any]) -> None:
        """Take in what some hub has announced. Raises ``ValueError`` for what none did."""
        hub, counts = _parse(announcement)
        if hub == self._id or not _is_limited():
            return
        now = self._loop.time()
        self._others = {name: other for name, other in self._others.items() if other.until > now}
        if announcement.get("ask") or not self._is_heard:
            self._is_heard = True
            self._all_at = min(self._all_at, self._all_told_at + ANSWER)
            self._plan(self._all_at)
        if announcement.get("end"):
            self._others.pop(hub, None)
        elif counts and self._has_room(hub, len(counts)):
            self._others.setdefault(hub, _Other()).take(counts, now + LEASE, anew=bool(announcement.get("all")))

    def _limits(self, user: str | None, address: str) -> Iterator[tuple[str, int]]:
        """Yield what is limited of a stream: by what name it is announced, and the limit."""
        per_user, per_address = settings.MAX_STREAMS_PER_USER, settings.MAX_STREAMS_PER_ADDRESS
        if per_user is not None and user:
            yield self._fingerprint(f"user {user}"), per_user
        if per_address is not None and address:
            yield self._fingerprint(f"address {address}"), per_address

    def _fingerprint(self, client: str) -> str:
        """Return what only those who have the SECRET_KEY can make of ``client``, or know it by."""
        return b64encode(blake2b(client.encode(), key=self._secret, digest_size=9).digest()).decode()

    def _count(self, key: str) -> int:
        now = self._loop.time()
        return self._own[key] + sum(other.count(key) for other in self._others.values() if other.until > now)

    def _has_room(self, hub: str, more: int) -> bool:
        if hub not in self._others and len(self._others) >= HUBS:
            return False
        return more + sum(other.size for other in self._others.values()) <= MOST

    def _note(self, key: str) -> None:
        if self._is_heard:
            self._changed.add(key)
            self._plan(self._announced_at + PAUSE)

    def _plan(self, when: float) -> None:
        """Say what there is to say at the time ``when``, or before."""
        when = max(when, self._loop.time())
        if self._loop.is_closed() or (self._timer and self._due <= when):
            return
        if self._timer:
            self._timer.cancel()
        self._due = when
        self._timer = self._loop.call_at(when, self._say)

    def _say(self) -> None:
        self._timer = None
        now = self._loop.time()
        says_all = bool(self._own) and now >= self._all_at
        asks, self._asks = self._asks, False
        counts = [(key, self._own[key]) for key in (self._own if says_all else self._changed)]
        self._changed.clear()
        if says_all:
            self._all_told_at, self._all_at = now, now + INTERVAL * random.uniform(0.7, 1.0)
        for at in range(0, max(len(counts), asks), PART):
            first = at == 0
            self._announce({"streams": dict(counts[at : at + PART]), "all": says_all and first, "ask": asks and first})
            self._announced_at, self._has_told = now, self._has_told or bool(counts)
        if self._own and self._is_heard:
            self._plan(self._all_at)

    def _announce(self, content: dict[str, Any]) -> None:
        if self._pid == os.getpid():  # a forked child must not speak for its parent
            self._broker.announce({"hub": self._id, **content})


class _Other:
    """What another hub announced."""

    __slots__ = ("_counts", "_earlier", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self._counts: dict[str, int] = {}
        self._earlier: dict[str, int] = {}
        """What it has not repeated since it began to announce all: it may be under way, or have got lost."""

    @property
    def size(self) -> int:
        return len(self._counts) + len(self._earlier)

    def count(self, key: str) -> int:
        return self._counts.get(key) or self._earlier.get(key, 0)

    def take(self, counts: dict[str, int], until: float, *, anew: bool) -> None:
        """Count ``counts`` until ``until``; ``anew``: all of them follow, perhaps in several parts."""
        self.until = until
        if anew:
            self._counts, self._earlier = {}, self._counts
        for key, count in counts.items():
            self._earlier.pop(key, None)
            if count:
                self._counts[key] = count
            else:
                self._counts.pop(key, None)


def _is_limited() -> bool:
    return settings.MAX_STREAMS_PER_USER is not None or settings.MAX_STREAMS_PER_ADDRESS is not None


def _parse(announcement: dict[str, Any]) -> tuple[str, dict[str, int]]:
    """Return whose announcement this is, and the counts. It may be anybody's who can write to the broker."""
    hub, counts = announcement.get("hub"), announcement.get("streams", {})
    if not isinstance(hub, str) or len(hub) != 32 or not isinstance(counts, dict) or len(counts) > PART:
        raise ValueError("An announcement names its hub, and a few counts.")
    for key, count in counts.items():
        if len(key) != 12 or type(count) is not int or not 0 <= count < 1_000_000:
            raise ValueError("A count is a whole number, by the fingerprint of a client.")
    return hub, counts
