"""Publishers in processes of their own. Each writes down what it does before and after it does it, so that it can be
killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import uuid4

from tests.checker import Publication
from tests.live.database import SETTINGS
from tests.server import DEADLINE, ROOT, environment, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Publisher", "publisher"]

SHAPES = {"each": 6, "batch": 2, "atomic": 3, "rolled-back": 1, "savepoint": 1}
"""The ways to publish, and how often each is taken."""


class Publisher:
    """A process that publishes, and the file in which it writes."""

    def __init__(self, process: subprocess.Popen[bytes], file: Path) -> None:
        self.process = process
        self._file = file
        self._read = 0
        self.publications: list[Publication] = []
        self._known: dict[str, Publication] = {}

    def take(self) -> list[Publication]:
        """Read what has been written since; return all publications. One that was begun alone is ``unknown``."""
        with self._file.open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole)
        for line in whole.splitlines():
            what, uuid, tick, *channel = line.split()
            if what == "begin":
                self._known[uuid] = Publication(channel[0], uuid, "unknown", begun=int(tick))
                self.publications.append(self._known[uuid])
            else:
                self._known[uuid].ended = int(tick)
                self._known[uuid].outcome = {"commit": "committed", "rollback": "rolled back"}.get(what, "unknown")
        return self.publications

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(DEADLINE)

    def finish(self, seconds: float = 600.0) -> list[Publication]:
        """Wait until it has published all that it was to."""
        assert self.process.wait(seconds) == 0
        return self.take()

    def stop(self) -> list[Publication]:
        """Ask it to end after what it is doing. One that has not begun yet just ends."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(DEADLINE) in (0, -signal.SIGTERM)
        return self.take()

    def has_published(self, count: int, seconds: float = 60.0) -> None:
        wait_for(lambda: sum(one.ended > 0 for one in self.take()) >= count, f"{count} events are published", seconds)


@contextmanager
def publisher(
    env: Mapping[str, str],
    file: Path,
    channels: Sequence[str],
    *,
    count: int = 10**9,
    rate: float = 0,
    shapes: str = "each",
    size: int = 0,
    stubborn: bool = False,
    threads: int = 1,
    settings: str = SETTINGS,
) -> Iterator[Publisher]:
    """Publish ``count`` events to random ``channels``, ``rate`` times a second (0: as fast as it goes); so does each
    of ``threads``.

    ``shapes``: ``each`` or ``mixed``; ``size``: bytes of ballast; ``stubborn``: goes on when publishing raises.
    """
    arguments = [
        str(file),
        ",".join(channels),
        str(count),
        str(rate),
        shapes,
        str(size),
        str(int(stubborn)),
        str(threads),
    ]
    file.touch()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.publisher", *arguments], cwd=ROOT, env=environment(settings, env)
    ) as process:
        try:
            yield Publisher(process, file)
        finally:
            process.kill()


def _main() -> None:
    import django

    django.setup()
    from django.db import Error, OperationalError, connection, transaction

    from django_sse import send_event, send_events

    name, channels, limit, rate, shapes, size, stubborn, threads = sys.argv[1:]
    names, ballast = channels.split(","), " " + "x" * int(size) if int(size) else ""
    output = os.open(name, os.O_WRONLY | os.O_APPEND)
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: stopped.append(number))
    begun = time.monotonic()

    def note(what: str, events: Sequence[tuple[str, str]]) -> None:
        tick = time.monotonic_ns()
        lines = [f"{what} {uuid} {tick}" + f" {channel}" * (what == "begin") for channel, uuid in events]
        os.write(output, ("\n".join(lines) + "\n").encode())

    def send(events: Sequence[tuple[str, str]]) -> None:
        for channel, uuid in events:
            send_event(channel, text=uuid + ballast)

    def act(shape: str, events: Sequence[tuple[str, str]]) -> int:
        """Publish; return how many of the first were committed."""
        if shape == "each":
            send(events)
        elif shape == "batch":
            send_events([{"channel": channel, "text": uuid + ballast} for channel, uuid in events])
        elif shape == "atomic":
            with transaction.atomic():
                send(events)
        elif shape == "rolled-back":
            with transaction.atomic():
                send(events)
                transaction.set_rollback(True)
            return 0
        else:
            with transaction.atomic():
                send(events[:1])
                with transaction.atomic():
                    send(events[1:])
                    transaction.set_rollback(True)
                if transaction.get_rollback():  # or Django would end the outer block without a word, and undo it too
                    raise OperationalError("The savepoint could not be rolled back, so everything is.")
            return 1
        return len(events)

    def work(_: int) -> None:
        done = 0
        while done < int(limit) and not stopped:
            shape = random.choices([*SHAPES], [*SHAPES.values()])[0] if shapes == "mixed" else "each"
            number = 1 if shape == "each" else random.randint(1, 5)
            events = [(random.choice(names), uuid4().hex[:16]) for _ in range(number)]
            note("begin", events)
            try:
                kept = act(shape, events)
            except Error as error:
                note("error", events)
                if not int(stubborn):
                    raise
                print(repr(error), file=sys.stderr)  # noqa: T201 - into the test's output
                connection.close()
                time.sleep(0.2)
            else:
                if kept:
                    note("commit", events[:kept])
                if kept < len(events):
                    note("rollback", events[kept:])
            done += number
            if float(rate):
                time.sleep(max(0.0, begun + done / float(rate) - time.monotonic()))
        connection.close()

    with ThreadPoolExecutor(int(threads)) as pool:
        working = [pool.submit(work, number) for number in range(int(threads))]
        # With a timeout: a wait without end may not notice the signal, and Python's handler runs in this thread alone.
        while wait(working, timeout=0.1, return_when=FIRST_EXCEPTION).not_done:
            if any(one.done() and one.exception() for one in working):
                break
        for one in working:
            one.result()
    os.close(output)


if __name__ == "__main__":
    _main()
