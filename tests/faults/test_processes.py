"""Forks, several event loops in one process, and servers that load the project before they fork."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from tests.checker import Arrival, Connection, Publication
from tests.faults.publisher import publisher
from tests.live.database import SETTINGS
from tests.server import ROOT, environment

CHANNELS = ["public.a", "public.b"]
BROKERS = {
    "local": {},
    "redis": {
        "BROKER": {"BACKEND": "django_sse.brokers.redis.RedisBroker", "OPTIONS": {"ALIAS": "redis"}},
        "POLL_INTERVAL": 60,
    },
    "postgres": {"BROKER": {"BACKEND": "django_sse.brokers.postgres.PostgresBroker"}, "POLL_INTERVAL": 60},
    "channel_layer": {
        "BROKER": {"BACKEND": "django_sse.brokers.channel_layer.ChannelLayerBroker"},
        "POLL_INTERVAL": 60,
    },
}
"""Where a broker crosses processes, the poll comes too late to hide that it does not."""


@pytest.mark.parametrize("broker", BROKERS)
@pytest.mark.parametrize("what", ["loops", "fork"])
def test_one_program_with_many_loops_or_children(database, redis_server, book, figures, what, broker):
    env = {**database.env, **redis_server.env, "LIVE_SSE": json.dumps(BROKERS[broker])}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::RuntimeWarning", "-m", "tests.faults.loops", what],
        cwd=ROOT,
        env=environment(SETTINGS, env),
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for word in ("RuntimeError", "destroyed", "event loop", "never awaited"):
        assert word not in done.stderr, done.stderr
    connections = []
    for line in done.stdout.splitlines():
        thing = json.loads(line)
        if "publication" in thing:
            book.publications.append(Publication(**thing["publication"]))
        else:
            fields = thing["connection"]
            fields |= {"channels": frozenset(fields["channels"])}
            fields |= {"arrivals": [Arrival(*one) for one in fields["arrivals"]]}
            connections.append(Connection(**fields))
    book.clients += connections
    verdict = book.verdict(database)
    assert len(connections) == {"loops": 6, "fork": 5}[what]
    figures(**verdict)


@pytest.mark.parametrize("broker", BROKERS)
def test_gunicorn_that_loads_the_project_before_it_forks(
    database, redis_server, start, book, browsers, figures, tmp_path, broker
):
    """Before the fork the project has published and streamed, so there are sockets, threads and a hub to inherit."""
    streams = 40
    env = {**redis_server.env}
    with (
        start("gunicorn-preload", database, env=env, tracebacks=False, **BROKERS[broker]) as server,
        publisher(
            {**database.env, **redis_server.env, "LIVE_SSE": json.dumps(BROKERS[broker])},
            tmp_path / "log",
            CHANNELS,
            rate=50,
            count=200,
        ) as publishing,
    ):
        crowd = browsers([server.port], streams, CHANNELS)
        for _ in range(20):
            book.post(server, "each", CHANNELS)
            time.sleep(0.05)
        publishing.finish()
        book.add(publishing)
        crowd.reach(book.say_goodbye(server, CHANNELS, database), 20)
        verdict = book.verdict(database, crowd)
        log = server.log()
    assert log.count("Booting worker") == 4
    assert "event loop" not in log
    figures(workers=4, streams=streams, **verdict)


SESSIONS = """
import os, sys, django
django.setup()
from django_sse.brokers import get_broker
broker = get_broker()
broker._publish("[]")
print(broker._connection.info.backend_pid, flush=True)
pid = os.fork()
if not pid:
    broker._publish("[]")
    print(broker._connection.info.backend_pid, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
broker._publish("[]")
print(broker._connection.info.backend_pid, flush=True)
"""


def test_a_child_notifies_by_a_session_of_its_own(database):
    """Two processes that talk on one connection read each other's answers."""
    env = {**database.env, "LIVE_SSE": json.dumps(BROKERS["postgres"])}
    command = [sys.executable, "-c", SESSIONS]
    done = subprocess.run(
        command, cwd=ROOT, env=environment(SETTINGS, env), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    before, childs, after = done.stdout.split()
    assert before == after, "the child has closed its parent's session"
    assert childs != before
