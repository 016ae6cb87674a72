"""Random schedules of publishers and clients, each made of its seed alone."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

__all__ = ["PUBLISH", "Schedule", "Step", "make_schedule"]

PUBLISH = ("each", "batch", "atomic", "rolled-back", "savepoint")
"""How events are published: the names of the views."""


class Step(NamedTuple):
    do: str
    """One of ``PUBLISH``, or trim, connect, leave, vanish, stall, resume."""
    channels: tuple[str, ...] = ()
    client: int = 0
    keep: int = 0


class Schedule(NamedTuple):
    seed: int
    clients: tuple[frozenset[str], ...]
    """The channels of each client."""
    steps: tuple[Step, ...]


def make_schedule(seed: int) -> Schedule:
    """Two or three channels, one to three clients, and what they do."""
    random = Random(seed)
    channels = [f"s{seed}.{name}" for name in "abc"[: random.randint(2, 3)]]
    clients = tuple(
        frozenset(random.sample(channels, random.randint(1, len(channels)))) for _ in range(random.randint(1, 3))
    )

    def step() -> Step:
        do = random.choices(
            [*PUBLISH, "trim", "connect", "leave", "vanish", "stall", "resume"],
            [6, 3, 3, 3, 2, 2, 6, 2, 2, 2, 1],
        )[0]
        if do in PUBLISH:
            # Sometimes more than the ring holds.
            count = 1 if do == "each" else random.choice([1, 2, 3, 7])
            return Step(do, tuple(random.choice(channels) for _ in range(count)))
        # Half of the trims come right behind an event, while its readers are on their way to it.
        behind = (random.choice(channels),) * random.randint(0, 1) if do == "trim" else ()
        return Step(do, behind, client=random.randrange(len(clients)), keep=random.choice([0, 0, 1, 3, 8]))

    return Schedule(seed, clients, tuple(step() for _ in range(random.randint(6, 16))))
