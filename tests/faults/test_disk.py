"""A PostgreSQL whose disk is full, or that may only be read: publishers are told, streams stay."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.faults.backing import directory, own_postgresql
from tests.faults.publisher import publisher
from tests.server import wait_for
from tests.services import missing

CHANNELS = ["public.a", "public.b"]
SIZE = "320m"


@pytest.fixture
def small_disk():
    """A file system of its own that is quickly full."""
    with directory() as place:
        place.chmod(0o755)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0777", "tmpfs", place], capture_output=True, check=False
        )
        if mounted.returncode:
            missing(f"This test needs to mount a tmpfs ({mounted.stderr.decode().strip()}).")
        try:
            yield place
        finally:
            subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.long
def test_full(small_disk, start, book, browsers, figures, tmp_path):
    streams = 20
    configuration = {"shared_buffers": "8MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}
    with own_postgresql(str(small_disk), **configuration) as server:
        database = server.make_database()
        with (
            start("uvicorn", database, HEARTBEAT=1, tracebacks=True) as web,
            publisher(
                database.env, tmp_path / "log", CHANNELS, rate=100, shapes="mixed", size=4000, stubborn=True
            ) as publishing,
        ):
            crowd = browsers([web.port], streams, CHANNELS)
            publishing.has_published(100)
            ballast = server.directory / "ballast"
            with ballast.open("wb", buffering=0) as file:  # a buffer would be written, and fail, once more at its end
                try:
                    while True:
                        file.write(b"x" * 65536)
                except OSError:
                    pass
            wait_for(lambda: sum(one.outcome == "unknown" for one in publishing.take()) > 20, "publishing raises")
            refused = sum(one.outcome == "unknown" for one in publishing.publications)
            crowd.beat()
            ballast.unlink()
            if not server.answers():  # PostgreSQL gives up where it cannot write its log of transactions
                server.start()
            begun = time.monotonic()
            seen = crowd.deliveries
            wait_for(lambda: crowd.deliveries > seen, "events come again", 60)
            back = time.monotonic() - begun
            publishing.has_published(len(publishing.take()) + 20)
            publishing.stop()
            book.add(publishing)
            crowd.reach(book.say_goodbye(web, CHANNELS, database))
            verdict = book.verdict(database, crowd)
    assert verdict["connections"] == streams, "a stream was lost"
    figures(streams=streams, disk=SIZE, **{"publications refused": refused, "back s": back}, **verdict)


def test_read_only(database, start, book, browsers, figures, tmp_path):
    """As on a standby: reading goes on, also for those who come or come back."""
    streams = 20
    with (
        start("uvicorn", database, HEARTBEAT=1, RING_SIZE=20, tracebacks=True) as web,
        publisher(database.env, tmp_path / "log", CHANNELS, rate=50, stubborn=True) as publishing,
    ):
        crowd = browsers([web.port], streams, CHANNELS)
        publishing.has_published(100)
        with database.connect() as connection:
            connection.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
        database.terminate("true")
        wait_for(lambda: sum(one.outcome == "unknown" for one in publishing.take()) > 5, "publishing raises")
        replaying = browsers([web.port], streams, CHANNELS, 0)
        wait_for(lambda: min(one.seen for one in replaying.browsers) >= 90, "the log is replayed")
        with database.connect() as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
        database.terminate("true")
        publishing.has_published(len(publishing.take()) + 20)
        publishing.stop()
        book.add(publishing)
        positions = book.say_goodbye(web, CHANNELS, database)
        crowd.reach(positions)
        replaying.reach(positions)
        verdict = book.verdict(database, crowd, replaying)
    assert all(len(one.connections) == 1 for one in crowd.browsers), "a stream was lost"
    figures(streams=2 * streams, **verdict)
