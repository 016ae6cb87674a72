"""Transactions that fail, stay open, or lose their process at the worst moment; tables that are locked."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.faults.conftest import POLL
from tests.faults.ledger import late, percentile
from tests.faults.publisher import publisher
from tests.live.client import connect
from tests.live.database import SETTINGS
from tests.live.publisher import publisher as by_command
from tests.server import ROOT, environment, wait_for

CHANNELS = ["public.a", "public.b"]
REDIS = {"BACKEND": "django_sse.brokers.redis.RedisBroker", "OPTIONS": {"ALIAS": "redis"}}

DIES_BEFORE_THE_DOORBELL = """
import os, sys, django
django.setup()
from django.db import transaction
from django_sse import publish, send_event

class Broker:
    def notify(self, position): os.kill(os.getpid(), 9)

publish.get_broker = Broker
with transaction.atomic():
    send_event(sys.argv[1], text=sys.argv[2])
"""

STOPS = {
    "while it gathers": """
import django
django.setup()
from django_sse import sequencer
sequencer.number(gather=3)
""",
    "before its commit": """
import os, signal, django
django.setup()
from django_sse import publish, send_event

def number(**given):
    numbered = real(**given)
    os.kill(os.getpid(), signal.SIGSTOP)
    return numbered

real, publish.number = publish.number, number
send_event("public.a", text="rolled back")
""",
    "while it trims": """
import os, signal, django
django.setup()
from django_sse import retention

def oldest(*given):
    os.kill(os.getpid(), signal.SIGSTOP)
    return []

retention._oldest = oldest
retention.trim(keep=1)
""",
}


def test_an_event_exists_if_and_only_if_its_transaction_committed(database, start, book, figures):
    with start("uvicorn", database, POLL_INTERVAL=0.1) as server, connect(server, ["public.ways"]) as client:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.ways"],
            cwd=ROOT,
            env=environment(SETTINGS, database.env),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        kept = []
        for line in done.stdout.splitlines():
            _, text, committed = line.split()
            publication = book.note("public.ways", "committed" if committed == "True" else "rolled back")
            publication.uuid, publication.begun = text, 0  # they were one after the other, but nobody took the time
            book.end(publication)
            kept += [text] if committed == "True" else []
        client.has(*kept)
        client.has(*book.post(server, "each", ["public.ways"])).settle()
        assert client.texts[:-1] == kept, done.stdout
        verdict = book.verdict(database, client)
    assert len(book.publications) - len(kept) > 5
    figures(ways=len(book.publications) - 1, committed=len(kept), **verdict)


@pytest.mark.parametrize("when", ["before the numbering", "before the doorbell"])
@pytest.mark.parametrize("broker", ["local", "redis"])
def test_a_publisher_killed_after_its_commit(database, redis_server, start, book, figures, when, broker):
    """The event is committed, so it comes, by the poll of whoever reads."""
    sse = {"BROKER": REDIS} if broker == "redis" else {}
    env = {**database.env, **redis_server.env, "LIVE_SSE": json.dumps(sse)}
    taken = []
    with (
        start("uvicorn", database, env=redis_server.env, POLL_INTERVAL=POLL, **sse) as one,
        start("uvicorn", database, env=redis_server.env, POLL_INTERVAL=POLL, **sse) as other,
        connect(one, ["public.a"], name="one") as first,
        connect(other, ["public.a"], name="other") as second,
    ):
        for _ in range(3):
            made = book.note("public.a")
            if when == "before the numbering":
                with by_command(database) as dying:
                    dying.do("begin")
                    dying.do("send", "public.a", made.uuid)
                    dying.die()
            else:
                command = [sys.executable, "-c", DIES_BEFORE_THE_DOORBELL, "public.a", made.uuid]
                done = subprocess.run(command, cwd=ROOT, env=environment(SETTINGS, env), timeout=60, check=False)
                assert done.returncode == -9
            book.end(made)
            died = time.monotonic()
            first.has(made.uuid)
            second.has(made.uuid)
            taken.append(time.monotonic() - died)
        first.settle()
        second.settle()
        verdict = book.verdict(database, first, second)
    assert max(taken) < POLL + 5
    figures(deaths=len(taken), **{"poll s": POLL, "slowest s": max(taken)}, **verdict)


@pytest.mark.parametrize("when", STOPS)
def test_one_that_stops_with_the_lock_holds_nobody_up(database, start, book, figures, when):
    """As one whose machine vanishes: the database still has its connection, and keeps what it locked there."""
    command = [sys.executable, "-c", STOPS[when]]
    env = environment(SETTINGS, database.env)
    with start("uvicorn", database, POLL_INTERVAL=POLL) as server, connect(server, ["public.a"]) as client:
        client.has(*book.post(server, "each", ["public.a"]))
        with subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True) as stopping:
            status = Path(f"/proc/{stopping.pid}/stat")
            try:
                if when == "while it gathers":
                    asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
                    wait_for(lambda: database.query(asleep), "it has the lock", 60)
                    stopping.send_signal(signal.SIGSTOP)
                else:
                    wait_for(lambda: status.read_text().rpartition(")")[2].split()[0] == "T", "it stops itself", 60)
                begun = time.monotonic()
                client.has(*book.post(server, "each", ["public.a"]))
                took = time.monotonic() - begun
            finally:
                stopping.send_signal(signal.SIGCONT)
            _, said = stopping.communicate(timeout=60)
        assert ("idle-in-transaction timeout" in said) == (when != "while it gathers"), said
        client.settle()
        verdict = book.verdict(database, client)
    figures(**{"held up s": took}, **verdict)


@pytest.mark.long
def test_a_transaction_that_stays_open_delays_its_own_events_alone(database, start, book, browsers, figures, tmp_path):
    """Others on the same channel are not delayed either: they are numbered in the order of commits."""
    held_open = 60.0
    with (
        start("uvicorn", database) as server,
        by_command(database) as idle,
        database.connect() as elsewhere,
    ):
        crowd = browsers([server.port], 50, CHANNELS)
        snapshot = elsewhere.execute("BEGIN ISOLATION LEVEL REPEATABLE READ").execute(
            "SELECT count(*) FROM django_sse_event"
        )
        assert snapshot.fetchall() == [(0,)]
        idle.do("begin")
        held = book.note("public.a")
        idle.do("send", "public.a", held.uuid)
        env = {**database.env}
        with publisher(env, tmp_path / "log", CHANNELS, rate=20, count=int(20 * held_open)) as publishing:
            book.add(publishing)
            publishing.finish()
        assert all(held.uuid not in one.arrived for one in crowd.browsers)
        lateness = late(publishing.publications, crowd.logs)
        idle.do("commit")
        book.end(held)
        crowd.reach(book.say_goodbye(server, CHANNELS, database))
        assert all(held.uuid in one.arrived for one in crowd.browsers)
        elsewhere.execute("ROLLBACK")
        verdict = book.verdict(database, crowd)
    assert len(lateness) >= 0.9 * len(crowd.browsers) * len(publishing.publications)
    assert percentile(lateness, 0.99) < POLL + 5
    figures(
        **{"held open s": held_open, "latency p50 s": percentile(lateness, 0.5)},
        **{"latency p99 s": percentile(lateness, 0.99)},
        **verdict,
    )


@pytest.mark.parametrize(
    "statement",
    [
        "VACUUM FULL django_sse_event",
        "ALTER TABLE django_sse_event ADD COLUMN note text",
        "LOCK TABLE django_sse_event IN ACCESS EXCLUSIVE MODE",
    ],
)
def test_a_table_that_is_locked_delays_and_loses_nothing(database, start, book, browsers, figures, tmp_path, statement):
    """Streams stay and beat: they wait for the log in a thread that is not theirs."""
    seconds = 4.0
    with (
        start("uvicorn", database, HEARTBEAT=0.5, tracebacks=True) as server,
        publisher(database.env, tmp_path / "log", CHANNELS, rate=100) as publishing,
    ):
        crowd = browsers([server.port], 30, CHANNELS)
        publishing.has_published(100)
        with database.connect() as connection:
            if statement.startswith("VACUUM"):  # no transaction may be around it, so it is as fast as it is
                for _ in range(20):
                    connection.execute(statement)
            else:
                connection.execute("BEGIN")
                connection.execute(statement)
                begun = time.monotonic()
                crowd.beat()
                time.sleep(max(0.0, begun + seconds - time.monotonic()))
                connection.execute("COMMIT")
        publishing.has_published(len(publishing.take()) + 50)
        publishing.stop()
        book.add(publishing)
        crowd.reach(book.say_goodbye(server, CHANNELS, database))
        verdict = book.verdict(database, crowd)
    assert verdict["connections"] == len(crowd.browsers), "a stream was lost"
    figures(**{"locked s": "as it is" if statement.startswith("VACUUM") else seconds}, **verdict)


def test_publishers_in_many_threads_with_transactions_of_any_length(database, start, book, browsers, figures, tmp_path):
    """Eight processes that insert, roll back and commit against each other's order."""
    publishers = 8
    with start("uvicorn", database, RING_SIZE=50) as server:
        crowd = browsers([server.port], 10, CHANNELS)
        made = []
        threads = []
        for number in range(publishers):

            def work(number: int = number) -> None:
                with publisher(
                    database.env, tmp_path / f"log-{number}", CHANNELS, count=150, shapes="mixed"
                ) as publishing:
                    made.append(publishing)
                    publishing.finish()

            threads.append(threading.Thread(target=work))
            threads[-1].start()
        for thread in threads:
            thread.join(120)
        book.add(*made)
        crowd.reach(book.say_goodbye(server, CHANNELS, database))
        verdict = book.verdict(database, crowd)
    assert verdict["events"] > publishers * 100
    figures(publishers=publishers, **verdict)
