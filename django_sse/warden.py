"""Closing the streams whose right has ended: the ones that a notice names, and the ones that are asked and denied.

The warden of a hub walks the log as a stream does, but on the control channel: notices reach it by the doorbell or by
the poll, in the order of commit, and one that is late or was missed is read from the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from django_sse.conf import settings
from django_sse.control import CONTROL, Notice
from django_sse.reader import PAGE
from django_sse.rounds import Rounds

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Iterable

    from django_sse.grant import Grant
    from django_sse.hub import Hub

__all__ = ["Warden"]

logger = logging.getLogger(__name__)

REMEMBERED: Final = 256
"""Notices that are kept for streams which were being opened when they came."""


class Watched(Protocol):
    """A stream, as its warden sees it."""

    channels: frozenset[str]
    grant: Grant

    def close(self, reason: str, *, final: bool = True) -> None:
        """End with ``sse.close``."""


class _Remembered(NamedTuple):
    position: int
    notice: Notice


class Warden:
    """Watches the streams of one hub. Everything happens in the hub's event loop."""

    channels = frozenset({CONTROL})

    @classmethod
    def of(cls, hub: Hub, position: int) -> Warden:
        """Return the warden of ``hub``; where there is none, a new one that knows of notices after ``position``."""
        if not isinstance(hub.warden, cls):
            hub.warden = cls(hub, position)
        return hub.warden

    def __init__(self, hub: Hub, position: int) -> None:
        self._hub = hub
        self._cursor = self._complete_from = position
        self._restores = hub.restores
        self._notices: deque[_Remembered] = deque(maxlen=REMEMBERED)
        self._streams: set[Watched] = set()
        self._rounds = Rounds()
        self._users: dict[str, set[Watched]] = {}
        self._sessions: dict[str, set[Watched]] = {}
        self._news = asyncio.Event()
        self._following: Task[None] | None = None

    def watch(self, stream: Watched) -> bool:
        """Close ``stream`` once it may not go on, until ``forget``. False: its user or address has too many already.

        A stream whose right ended while it was being opened is closed at once.
        """
        grant = stream.grant
        if self._hub.census.is_full(grant.user, grant.address):
            return False
        if not self._streams:
            self._start()
        self._streams.add(stream)
        self._hub.census.add(grant.user, grant.address)
        self._rounds.add(stream)
        if grant.user:
            self._users.setdefault(grant.user, set()).add(stream)
        if grant.session:
            self._sessions.setdefault(grant.session, set()).add(stream)
        if grant.position < self._complete_from:
            self._rounds.ask_soon([stream])
        for position, notice in self._notices:
            # A session that was logged out of is over, also for whoever read it just before it was deleted.
            if position > grant.position or notice.session:
                self._obey(notice, [stream])
        return True

    def forget(self, stream: Watched) -> None:
        """Stop watching ``stream``, which has ended."""
        if stream not in self._streams:
            return
        self._streams.discard(stream)
        self._hub.census.discard(stream.grant.user, stream.grant.address)
        self._rounds.discard(stream)
        for index, name in ((self._users, stream.grant.user), (self._sessions, stream.grant.session)):
            if name and name in index:
                index[name].discard(stream)
                if not index[name]:
                    del index[name]
        if not self._streams:
            self._stop()

    def wake(self) -> None:
        """There is a notice. (``hub.Subscriber``)"""
        self._news.set()

    def ephemeral(self, frame: bytes) -> None:
        """Never called: nothing is published to the control channel. (``hub.Subscriber``)"""

    def end(self) -> None:
        """The hub ends all streams; the last of them stops this. (``hub.Subscriber``)"""

    def _start(self) -> None:
        self._hub.add(self)
        self._following = asyncio.create_task(self._follow(), name="django_sse notices")
        self._rounds.start()

    def _stop(self) -> None:
        self._hub.discard(self)
        if self._following:
            self._following.cancel()
        self._rounds.stop()
        self._hub.warden = None

    async def _follow(self) -> None:
        while True:
            self._news.clear()
            try:
                await self._read()
            except Exception as error:  # the database is away, mostly; a warden that dies closes nothing any more
                logger.warning("Notices cannot be read, the next try follows: %r", error)
            with suppress(TimeoutError):  # now and then without news: the cursor must not fall out of the ring
                async with asyncio.timeout(settings.POLL_INTERVAL):
                    await self._news.wait()

    async def _read(self) -> None:
        hub = self._hub
        while True:
            if not hub.started:
                await hub.catch_up()
            if self._restores != hub.restores or self._cursor > hub.ring.head:
                self._restores = hub.restores  # from a backup: nobody knows what was lost
                return self._lost()
            if hub.reaches(self._cursor):
                lines, cursor = hub.ring.after(self._cursor, self.channels)
                at_end = cursor == hub.ring.head
            else:
                try:
                    lines, cursor, _ = await hub.replay(self._cursor, self.channels, PAGE)
                except LookupError:
                    return self._lost()
                at_end = cursor >= hub.ring.head
            self._cursor = cursor
            for line in lines.splitlines():
                self._take(line)
            if at_end:
                return None

    def _lost(self) -> None:
        """Go on from the end of the log, and ask for every stream: a notice may have been among what is gone."""
        self._cursor = self._complete_from = self._hub.ring.head
        self._rounds.ask_soon(self._streams)

    def _take(self, line: bytes) -> None:
        number, _, text = line.partition(b" ")
        position = int(number)
        try:
            notice = Notice.decode(text.decode())
        except (ValueError, TypeError):
            logger.error("Event %d of the control channel is no notice, so every stream is asked", position)
            notice = Notice("unreadable", ask=True)
        if len(self._notices) == REMEMBERED:
            self._complete_from = self._notices[0].position
        self._notices.append(_Remembered(position, notice))
        streams: Iterable[Watched] = self._streams
        if notice.session:
            streams = self._sessions.get(notice.session, ())
        elif notice.users is not None:
            streams = [one for user in notice.users for one in self._users.get(user, ())]
        self._obey(notice, streams)

    def _obey(self, notice: Notice, streams: Iterable[Watched]) -> None:
        concerned = [one for one in streams if notice.concerns(one.grant.user, one.grant.session, one.channels)]
        if notice.ask:
            self._rounds.ask_soon(concerned)
            return
        for stream in concerned:
            stream.close(notice.reason, final=notice.final)
