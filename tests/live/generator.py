"""A producer in a process of its own: streams words to a channel, as a worker of a task queue would."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.live.database import SETTINGS
from tests.server import DEADLINE, ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.live.database import Database

__all__ = ["Generator", "generator", "words"]


def words(seed: int, count: int) -> list[str]:
    """The same for the same seed. Their numbers make every loss and every repetition visible."""
    draw = random.Random(seed)
    return [f"{number}{draw.choice(['a', 'é', '漢', chr(0x1F680), chr(10), ' '])}" for number in range(count)]


class Generator:
    """The process, and what it is to say."""

    def __init__(self, process: subprocess.Popen[str], channel: str, text: str) -> None:
        self.process = process
        self.channel = channel
        self.text = text

    def over(self) -> str:
        """Wait for the end of the text and return its reason."""
        out, _ = self.process.communicate(timeout=DEADLINE)
        assert self.process.returncode == 0
        return out.strip()


@contextmanager
def generator(database: Database, channel: str, count: int, pause: float) -> Iterator[Generator]:
    """``count`` words, one each ``pause`` seconds, until the block ends."""
    seed = random.randrange(10**9)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.live.generator", channel, str(seed), str(count), str(pause)],
        cwd=ROOT,
        env=environment(SETTINGS, database.env),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Generator(process, channel, "".join(words(seed, count)))
    finally:
        process.kill()
        process.communicate()


def _main(channel: str, seed: str, count: str, pause: str) -> None:
    import asyncio

    import django

    django.setup()

    async def speak() -> None:
        from django_sse.tokens import token_stream

        async with token_stream(channel) as stream:
            for word in words(int(seed), int(count)):
                await stream.send(word)
                await asyncio.sleep(float(pause))
        print(stream.reason, flush=True)  # noqa: T201 - the answer

    asyncio.run(speak())


if __name__ == "__main__":
    _main(*sys.argv[1:])
