"""A publisher in a process of its own, one command a line: the test decides when each of them begins and commits."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.live.database import SETTINGS
from tests.server import DEADLINE, ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.live.database import Database

__all__ = ["Publisher", "publisher"]


class Publisher:
    """Sends commands to the process and waits for each to be done."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, *command: str) -> None:
        """begin, commit, rollback, send <channel> <text>, die-at-commit."""
        self._process.stdin.write(" ".join(command) + "\n")
        self._process.stdin.flush()
        assert select.select([self._process.stdout], [], [], DEADLINE)[0], f"no answer to {command}"
        answer = self._process.stdout.readline()
        assert answer == "done\n", f"{command}: {answer!r}"

    def die(self) -> None:
        """Commit, and end before Django can call its hooks."""
        self._process.stdin.write("die-at-commit\n")
        self._process.stdin.flush()
        assert self._process.wait(DEADLINE) == 9


@contextmanager
def publisher(database: Database) -> Iterator[Publisher]:
    """A publisher on ``database`` until the block ends."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.live.publisher"],
        cwd=ROOT,
        env=environment(SETTINGS, database.env),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Publisher(process)
        finally:
            process.kill()


def _main() -> None:
    import django

    django.setup()
    from django.db import connection, transaction

    from django_sse import send_event

    block = transaction.atomic()
    for line in sys.stdin:
        match line.split():
            case ["begin"]:
                block = transaction.atomic()
                block.__enter__()
            case ["send", channel, text]:
                send_event(channel, text=text)
            case ["commit"]:
                block.__exit__(None, None, None)
            case ["rollback"]:
                transaction.set_rollback(True)
                block.__exit__(None, None, None)
            case ["die-at-commit"]:
                connection.run_on_commit.insert(0, (set(), lambda: os._exit(9), False))
                block.__exit__(None, None, None)
        print("done", flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    _main()
