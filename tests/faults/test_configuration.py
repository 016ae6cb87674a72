"""Settings of Django that change how connections, requests, times and users are."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack

import pytest

from tests.live.client import Client, connect
from tests.live.database import NAMED, empty_database
from tests.server import ROOT, environment

SETTINGS = "tests.faults.settings"
HOURS = "Asia/Kathmandu"
"""A time zone that is no whole number of hours from any other."""
CASES = {
    "ATOMIC_REQUESTS": {"DATABASES": {"default": {"ATOMIC_REQUESTS": True}}},
    "CONN_MAX_AGE for ever": {"DATABASES": {"default": {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}}},
    "USE_TZ": {"USE_TZ": False, "TIME_ZONE": HOURS},
    "a log of its own": {
        "DATABASES": {"log": {}},
        "DATABASE_ROUTERS": ["tests.faults.accounts.router.Router"],
        "sse": {"DATABASE": "log"},
    },
    "users with UUIDs": {"INSTALLED_APPS": ["tests.faults.accounts"], "AUTH_USER_MODEL": "accounts.User", "sse": {}},
}
ONLY = {
    "postgresql": {
        "CONN_MAX_AGE": {"DATABASES": {"default": {"CONN_MAX_AGE": 60}}},
        "TIME_ZONE": {"TIME_ZONE": HOURS},
        "a pool": {"DATABASES": {"default": {"OPTIONS": {"pool": {"min_size": 1, "max_size": 8}}}}},
        "server-side binding": {"DATABASES": {"default": {"OPTIONS": {"server_side_binding": True}}}},
        "serializable": {"DATABASES": {"default": {"OPTIONS": {"isolation_level": 4}}}},
    },
    "mysql": {
        "repeatable read": {"DATABASES": {"default": {"OPTIONS": {"isolation_level": "repeatable read"}}}},
        "serializable": {"DATABASES": {"default": {"OPTIONS": {"isolation_level": "serializable"}}}},
    },
    "sqlite": {},
}
"""What one vendor alone has, and what on the others goes without saying where the cases above work."""
LOGIN = """
import django
django.setup()
from importlib import import_module
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
user = get_user_model().objects.create_user("somebody")
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[SESSION_KEY] = str(user.pk)
session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[HASH_SESSION_KEY] = user.get_session_auth_hash()
session.create()
from django_sse.channels import user_channel
print(user_channel(user), session.session_key)
"""


def run(env, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(SETTINGS, env),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def empty(tmp_path):
    """``empty("mysql")``: a database without a table."""
    with ExitStack() as stack:
        yield lambda vendor: stack.enter_context(empty_database(vendor, tmp_path))


@pytest.mark.long
@pytest.mark.parametrize(
    ("vendor", "name"), [(vendor, name) for vendor, own in ONLY.items() for name in {**CASES, **own}]
)
def test_it_works(empty, database_of, start, book, figures, vendor, name):
    given = dict({**CASES, **ONLY[vendor]}[name])
    sse = {"RING_SIZE": 5, "POLL_INTERVAL": 0.2, **given.pop("sse", {})}
    has_a_log, has_users = "log" in given.get("DATABASES", {}), "AUTH_USER_MODEL" in given
    main = events = empty(vendor) if has_a_log or has_users else database_of(vendor)
    if has_a_log:
        events = empty(vendor)
        given["DATABASES"] = {"log": {"NAME": events.name}}
    env = {**main.env, "FAULTS_SETTINGS": json.dumps(given), "LIVE_SSE": json.dumps(sse)}
    ways = ["each", "batch", "atomic", "thread", "async"]
    if name == "ATOMIC_REQUESTS":
        ways.remove("async")  # Django itself refuses async views there, but for those that say that they need none
        if vendor == "sqlite":
            ways.remove("thread")  # SQLite's one lock is the view's, and the thread would wait for it in vain
    if has_a_log or has_users:
        run(env, "-m", "django", "migrate", "--run-syncdb", "--verbosity=0")
    if has_a_log:
        run(env, "-m", "django", "migrate", "--database=log", "--verbosity=0")
    settings = {"DJANGO_SETTINGS_MODULE": SETTINGS, "FAULTS_SETTINGS": json.dumps(given)}
    with start("uvicorn", main, env=settings, **sse) as one, start("uvicorn", main, env=settings, **sse) as other:
        with connect(one, ["public.a", "orders"]) as first:
            for how in ways:
                texts = book.post(one, how, ["public.a"] * 3)
                texts += book.post(other, how, ["public.a"] * 7)
                first.has(*texts)
            for how, kept in (("rolled-back", 0), ("savepoint", 1)):
                # A transaction of one database says nothing about another: there it is autocommit.
                book.post(one, how, ["public.a"] * 3, kept=3 if has_a_log else kept)
            if not has_a_log:
                first.has(*book.post(other, "signal", ["orders"] * 2))
            first.has(*book.post(other, "each", ["public.a"])).settle()
        with connect(other, ["public.a", "orders"], first.log.arrivals[0].id) as replayed:
            replayed.has(*first.texts).settle()
        verdict = book.verdict(events, first, replayed)
    # It makes the system checks too.
    assert run(env, "-m", "django", "sse_trim") == "Trimmed 0 events\n", "what was just published is a week old"
    figures(**verdict)


@pytest.mark.parametrize("vendor", NAMED)
def test_a_user_with_a_uuid_reads_the_channel_of_that_user(empty, start, book, vendor):
    database = empty(vendor)
    given = {key: value for key, value in CASES["users with UUIDs"].items() if key != "sse"}
    settings = {"DJANGO_SETTINGS_MODULE": SETTINGS, "FAULTS_SETTINGS": json.dumps(given)}
    sse = {"AUTHORIZE": "django_sse.access.authorize"}
    env = {**database.env, **settings, "LIVE_SSE": json.dumps(sse)}
    run(env, "-m", "django", "migrate", "--run-syncdb", "--verbosity=0")
    channel, session = run(env, "-c", LOGIN).split()
    with start("uvicorn", database, env=settings, **sse) as server:
        client = Client(server, [channel], headers={"Cookie": f"sessionid={session}"}).opened()
        client.has(*book.post(server, "each", [channel])).settle().leave()
        assert server.request("GET", f"/events/?channel={channel}")[0] == 403, "a stranger"
        book.verdict(database, client)
