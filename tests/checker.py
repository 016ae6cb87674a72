"""The judge of deliveries: reads what publishers and clients wrote down, and names every fault.

It shares no code with django_sse, so that a mistake there cannot hide itself here.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Arrival", "Connection", "Fault", "Parser", "Publication", "Received", "judge"]


class Received(NamedTuple):
    """One block of an event stream, as a browser sees it."""

    type: str | None
    """``None``: the block held no data, so it fired no event."""
    data: str
    id: str
    """The last event ID after this block."""


class Parser:
    """Bytes to blocks, after WHATWG HTML 9.2.6; fed in pieces of any size."""

    def __init__(self) -> None:
        self.id = ""
        self.retry: int | None = None
        self._rest = b""
        self._first = True
        self._block: list[tuple[str, str]] = []

    def feed(self, data: bytes) -> Iterator[Received]:
        """Take in ``data``; yield the blocks that it completes."""
        self._rest += data
        # A CR at the very end may be half of a CR LF: it waits for the next byte.
        while end := re.search(rb"\r\n|\n|\r(?!\Z)", self._rest):
            line, self._rest = self._rest[: end.start()], self._rest[end.end() :]
            if self._first:
                line, self._first = line.removeprefix(b"\xef\xbb\xbf"), False
            if line:
                self._line(line.decode(errors="replace"))
            elif self._block:
                yield self._dispatch()

    def _line(self, line: str) -> None:
        name, _, value = line.partition(":")
        if name:
            self._block.append((name, value.removeprefix(" ")))

    def _dispatch(self) -> Received:
        type_, data = "", []
        for name, value in self._block:
            if name == "data":
                data.append(value)
            elif name == "event":
                type_ = value
            elif name == "id" and "\0" not in value:
                self.id = value
            elif name == "retry" and re.fullmatch("[0-9]+", value):
                self.retry = int(value)
        self._block = []
        return Received((type_ or "message") if data else None, "\n".join(data), self.id)


@dataclass
class Publication:
    """What a publisher wrote down about one event. ``begun`` and ``ended`` are ticks of the clock that all share: the
    commit lies between them."""

    channel: str
    uuid: str
    outcome: Literal["committed", "rolled back", "unknown"]
    begun: int = 0
    ended: int = 0
    position: int | None = None
    """As the table has it; ``None`` where nobody looked."""


class Arrival(NamedTuple):
    """One block that a client got, with the id it left the client with."""

    id: int
    uuid: str | None = None
    """``None``: no event of a publisher."""
    reset: str | None = None
    """The reason, where the block was an ``sse.reset``."""
    tick: int = 0


@dataclass
class Connection:
    """What a client wrote down about one connection."""

    client: str
    channels: frozenset[str]
    presented: int | None = None
    """The last event ID, or ``since``; ``None``: live only."""
    arrivals: list[Arrival] = field(default_factory=list)
    opened: int = 0
    """When its first bytes had come."""
    settled: int | None = None
    """When the client had stopped waiting: all that had ended by then must have come."""


Kind = Literal["lost", "phantom", "duplicate", "inversion", "silent gap", "groundless reset"]


class Fault(NamedTuple):
    kind: Kind
    client: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.client}: {self.what}"


def judge(
    publications: Sequence[Publication],
    connections: Iterable[Connection],
    trims: Iterable[tuple[int, int]] = (),
) -> list[Fault]:
    """Return every fault. ``trims``: each the tick before it began, and the floor that it left.

    * lost: committed, due on a connection that waited for it, and did not come;
    * phantom: came, though it was never committed, or was for another channel;
    * duplicate: came twice on one connection;
    * inversion: came, or was numbered, before what had been committed earlier;
    * silent gap: the client's id went past it without it, and without a reset;
    * groundless reset: a reset of a client whose id could have been served.
    """
    faults = list(_judge_numbers(publications))
    trims = list(trims)
    known = {publication.uuid: publication for publication in publications}
    due: dict[frozenset[str], _Due] = {}  # the same for all connections of the same channels
    for connection in connections:
        channels = connection.channels
        if channels not in due:
            due[channels] = _Due(publications, channels)
        faults += _Judge(connection, known, due[channels], trims).run()
    return faults


def _judge_numbers(publications: Sequence[Publication]) -> Iterator[Fault]:
    numbered = sorted((p for p in publications if p.position is not None), key=lambda p: p.position or 0)
    for one, next_ in pairwise(numbered):
        if one.position == next_.position:
            yield Fault("inversion", "log", f"{one.uuid} and {next_.uuid} both have position {one.position}")
    earliest_end = float("inf")
    for publication in reversed(numbered):
        if publication.begun > earliest_end:
            what = f"{publication.uuid} has position {publication.position}, before what ended before it began"
            yield Fault("inversion", "log", what)
        earliest_end = min(earliest_end, publication.ended)
    for publication in numbered:
        if publication.outcome == "rolled back":
            yield Fault("phantom", "log", f"{publication.uuid} was rolled back and has {publication.position}")


class _Due:
    """What was committed to some channels, and in which order it has positions."""

    def __init__(self, publications: Sequence[Publication], channels: frozenset[str]):
        self.events = [p for p in publications if p.outcome == "committed" and p.channel in channels]
        self.line = sorted((p.position, p.uuid) for p in self.events if p.position is not None)


class _Judge:
    """Walks one connection with the cursor that its client had."""

    def __init__(self, connection: Connection, known: dict[str, Publication], due: _Due, trims: list[tuple[int, int]]):
        self.connection = connection
        self.known = known
        self.mine = due.events
        self.line = due.line
        self.trims = trims
        self.cursor = connection.presented
        self.seen: set[str] = set()
        self.latest_begun = -1
        self.faults: list[Fault] = []

    def run(self) -> list[Fault]:
        for arrival in self.connection.arrivals:
            if arrival.reset:
                self._reset(arrival)
            else:
                self._pass(arrival)
            if arrival.uuid is not None:
                self._event(arrival)
            self.cursor = arrival.id
        if self.connection.settled is not None:
            self._end(self.connection.settled)
        return self.faults

    def _fault(self, kind: Kind, what: str) -> None:
        self.faults.append(Fault(kind, self.connection.client, what))

    def _reset(self, arrival: Arrival) -> None:
        floor = max((floor for tick, floor in self.trims if tick <= arrival.tick), default=0)
        if arrival.reset != "expired" or self.cursor is None or self.cursor >= floor:
            self._fault("groundless reset", f"{arrival.reset} at {self.cursor}, the floor was at most {floor}")

    def _pass(self, arrival: Arrival) -> None:
        """The cursor goes from where it was to the arrival's id: everything between must have come."""
        if self.cursor is None:
            return
        is_event = arrival.uuid is not None
        if arrival.id < self.cursor or (is_event and arrival.id == self.cursor and arrival.uuid not in self.seen):
            self._fault("inversion", f"id {arrival.id} came after {self.cursor}")
        for position, uuid in self._between(self.cursor, arrival.id):
            if uuid != arrival.uuid and uuid not in self.seen:
                self._fault("silent gap", f"id {arrival.id} came after {self.cursor} and without {uuid} at {position}")

    def _event(self, arrival: Arrival) -> None:
        uuid = arrival.uuid or ""
        publication = self.known.get(uuid)
        if uuid in self.seen:
            self._fault("duplicate", f"{uuid} at {arrival.id}")
            return
        self.seen.add(uuid)
        if (
            publication is None
            or publication.outcome == "rolled back"
            or publication.channel not in self.connection.channels
        ):
            self._fault("phantom", f"{uuid} at {arrival.id}: {publication}")
            return
        if publication.position is not None and publication.position != arrival.id:
            self._fault("inversion", f"{uuid} came as {arrival.id}, the log has it at {publication.position}")
        if publication.ended < self.latest_begun:
            self._fault("inversion", f"{uuid} came after what began when it had ended")
        self.latest_begun = max(self.latest_begun, publication.begun)

    def _end(self, settled: int) -> None:
        behind = {uuid for position, uuid in self.line if self.cursor is not None and position <= self.cursor}
        for publication in self.mine:
            due = publication.position is not None and self.cursor is not None and publication.uuid not in behind
            due |= publication.begun > self.connection.opened and publication.uuid not in behind
            if publication.ended <= settled and due and publication.uuid not in self.seen:
                self._fault("lost", f"{publication.uuid} at {publication.position}, the client ended at {self.cursor}")

    def _between(self, after: int, upto: int) -> list[tuple[int, str]]:
        low, high = (bisect_right(self.line, (position, "\U0010ffff")) for position in (after, upto))
        return self.line[low:high]
