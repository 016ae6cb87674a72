"""What the publishers and browsers of one test wrote down, and the verdict, as figures."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Final

from tests.checker import judge
from tests.live.client import ticks
from tests.live.conftest import Book

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.checker import Connection, Fault, Publication
    from tests.faults.crowd import Crowd
    from tests.faults.publisher import Publisher
    from tests.live.client import Client
    from tests.live.database import Database
    from tests.server import Server

__all__ = ["FAULTS", "Ledger", "late", "median", "percentile"]

FAULTS: Final = ("lost", "phantom", "duplicate", "inversion", "silent gap", "groundless reset")


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that so many (0 to 1) of ``values`` do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def median(values: Iterable[float]) -> float:
    return percentile(values, 0.5)


def late(publications: Iterable[Publication], connections: Iterable[Connection]) -> list[float]:
    """Return the seconds from each event's publication to each of its arrivals that were live or replayed."""
    begun = {publication.uuid: publication.begun for publication in publications}
    return [
        (one.tick - begun[one.uuid]) / 1e9
        for connection in connections
        for one in connection.arrivals
        if one.uuid in begun
    ]


class Ledger(Book):
    """A ``Book`` whose publishers and readers are many and may die: the table says what became of the unknown."""

    def __init__(self) -> None:
        super().__init__()
        self._publishers: list[Publisher] = []

    def add(self, *publishers: Publisher) -> None:
        self._publishers += publishers

    def take(self) -> None:
        """Read what the publishers have written."""
        own = {id(publication) for publication in self.publications}
        for publisher in self._publishers:
            self.publications += [one for one in publisher.take() if id(one) not in own]

    def look_up(self, database: Database) -> None:
        """Note the positions that the table has. What nobody knows the outcome of is committed if it is there."""
        self.take()
        rows = database.query("SELECT data, position FROM django_sse_event")
        positions = {data.partition(" ")[0].strip('"'): position for data, position in rows}
        tick = next(ticks)
        for publication in self.publications:
            if publication.uuid in positions:
                publication.position = positions[publication.uuid] or publication.position
                if publication.outcome == "unknown":
                    publication.outcome, publication.ended = "committed", tick

    def say_goodbye(self, server: Server, channels: Sequence[str], database: Database) -> dict[str, int]:
        """Publish a last event to every channel; return its position by channel. Whoever has it has all."""
        texts = self.post(server, "batch", channels)
        self.look_up(database)
        positions = {one.uuid: one.position or 0 for one in self.publications if one.uuid in texts}
        return dict(zip(channels, [positions[text] for text in texts], strict=True))

    def faults(self, connections: Iterable[Connection]) -> list[Fault]:
        """Judge. What is still unknown was never committed: nothing of it may have come."""
        for publication in self.publications:
            if publication.outcome == "unknown" and publication.position is None:
                publication.outcome = "rolled back"
        return judge(self.publications, connections, self.trims)

    def verdict(self, database: Database, *crowds: Crowd | Client) -> dict[str, int]:
        """Fail for every fault; return the figures of the verdict."""
        self.look_up(database)
        connections = [*self.clients]
        for one in crowds:
            connections += one.logs if hasattr(one, "logs") else [one.log]
        faults = self.faults(connections)
        counted = Counter(fault.kind for fault in faults)
        assert not faults, f"{dict(counted)}\n" + "\n".join(map(str, faults[:20]))
        committed = [one for one in self.publications if one.outcome == "committed"]
        assert all(one.position for one in committed), "a committed event has no position"
        return {
            "events": len(committed),
            "deliveries": sum(arrival.uuid is not None for one in connections for arrival in one.arrivals),
            "connections": len(connections),
            **{kind: counted[kind] for kind in FAULTS},
        }


def as_text(figures: dict[str, object]) -> str:
    """Return figures on one line."""
    return ", ".join(
        f"{name} {value:.3g}"
        if isinstance(value, float)
        else f"{name} {value if isinstance(value, (int, str)) else json.dumps(value)}"
        for name, value in figures.items()
    )
