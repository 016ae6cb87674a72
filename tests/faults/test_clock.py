"""Web processes whose clocks are wrong, and jump: order, retention and heartbeats do not look at them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.faults.ledger import late, percentile
from tests.faults.publisher import publisher
from tests.live.database import SETTINGS
from tests.server import ROOT, environment, wait_for
from tests.services import missing

CHANNELS = ["public.a", "public.b"]
BERLIN = {"USE_TZ": False, "TIME_ZONE": "Europe/Berlin"}
"""The settings to which a local hour that comes twice means most: what they write down has no offset."""
PUT_BACK = datetime(2026, 10, 25, 1, 0, tzinfo=UTC)
"""When it is 3 o'clock there, and then 2 o'clock."""
CLOCK = "import time; print(time.time(), time.strftime('%H %Z'))"


@pytest.fixture
def wrong_clock(tmp_path):
    """``wrong_clock("name", "+1h")``: the environment of a process with that clock, and a function to set it again."""
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        missing("This test needs libfaketime (Debian's package faketime).")

    def wrong_clock(name: str, offset: str):
        file = tmp_path / f"clock-{name}"
        file.write_text(offset)
        env = {
            "LD_PRELOAD": str(libraries[0]),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            # A clock that is set does not move the monotonic one.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

        def set_clock(offset: str) -> None:
            """At once: a process that reads half a file has no time at all."""
            half = file.with_suffix(".new")
            half.write_text(offset)
            half.replace(file)

        return env, set_clock

    return wrong_clock


@pytest.mark.long
def test_clocks_that_disagree_and_jump(database, start, book, browsers, figures, tmp_path, wrong_clock):
    early, set_early = wrong_clock("early", "-1h")
    ahead, set_ahead = wrong_clock("ahead", "+1h")
    sse = {"HEARTBEAT": 1, "RING_SIZE": 50}
    with (
        start("uvicorn", database, env=early, **sse) as one,
        start("uvicorn", database, env=ahead, **sse) as other,
        publisher({**database.env, **ahead}, tmp_path / "ahead", CHANNELS, rate=15, shapes="mixed") as first,
        publisher({**database.env, **early}, tmp_path / "early", CHANNELS, rate=15, shapes="mixed") as second,
    ):
        crowd = browsers([one.port, other.port], 10, CHANNELS)
        quiet = browsers([one.port, other.port], 10, ["public.quiet"])
        for offset in ("+0", "-1h", "+1h", "-2h"):  # back and forth, as in the nights when the clocks change
            quiet.beat()
            set_early(offset)
            set_ahead(offset)
            crowd.drop()
            crowd.all_live()
        quiet.beat()
        first.stop()
        second.stop()
        book.add(first, second)
        crowd.reach(book.say_goodbye(one, CHANNELS, database))
        ends = [end for browser in quiet.browsers for end in browser.ends]
        verdict = book.verdict(database, crowd, quiet)
    assert not ends, f"a jump of the clock has ended streams: {ends}"
    assert percentile(late(book.publications, crowd.logs), 0.5) < 5
    figures(jumps=4, **verdict)


@pytest.mark.long
def test_a_night_in_which_the_clock_is_put_back(database, start, book, browsers, figures, tmp_path, wrong_clock):
    """Servers and publishers live through the hour that comes twice; nothing is taken for older than it is."""
    clock, set_clock = wrong_clock("night", "+0")
    settings = {"DJANGO_SETTINGS_MODULE": "tests.faults.settings", "FAULTS_SETTINGS": json.dumps(BERLIN), **clock}
    env = {**database.env, **settings}

    def ask(*command: str) -> str:
        ran = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment(settings["DJANGO_SETTINGS_MODULE"], {**env, "TZ": BERLIN["TIME_ZONE"]}),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return ran.stdout

    sse = {"HEARTBEAT": 1, "RING_SIZE": 50}
    with (
        start("uvicorn", database, env=settings, **sse) as one,
        start("uvicorn", database, env=settings, **sse) as other,
        publisher(
            env, tmp_path / "log", CHANNELS, rate=20, shapes="mixed", settings=env["DJANGO_SETTINGS_MODULE"]
        ) as publishing,
    ):
        crowd = browsers([one.port, other.port], 10, CHANNELS)
        quiet = browsers([one.port, other.port], 10, ["public.quiet"])
        set_clock(f"{PUT_BACK.timestamp() - 10 - time.time():+.0f}")
        assert ask("-c", CLOCK).split()[1:] == ["02", "CEST"]
        publishing.has_published(len(publishing.take()) + 50)
        wait_for(lambda: ask("-c", CLOCK).split()[1:] == ["02", "CET"], "the clock is put back")
        crowd.drop()
        crowd.all_live()
        quiet.beat()
        publishing.has_published(len(publishing.take()) + 50)
        publishing.stop()
        book.add(publishing)
        crowd.reach(book.say_goodbye(one, CHANNELS, database))
        assert ask("-m", "django", "sse_trim") == "Trimmed 0 events\n"
        ends = [end for browser in quiet.browsers for end in browser.ends]
        verdict = book.verdict(database, crowd, quiet)
    assert not ends, f"the change of the clock has ended streams: {ends}"
    figures(**verdict)


def test_retention_goes_by_the_clock_of_the_database(database, start, book, figures, wrong_clock):
    """A web server that is a year ahead trims nothing that is young."""
    env, _ = wrong_clock("year", "+365d")
    with start("uvicorn", database) as server:
        texts = book.post(server, "batch", CHANNELS * 10)
        done = subprocess.run(
            [sys.executable, "-m", "django", "sse_trim"],
            cwd=ROOT,
            env=environment(SETTINGS, {**database.env, **env}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout == "Trimmed 0 events\n", done.stderr
        assert len(database.positions()) == len(texts)
        database.manage("sse_trim")
    told = subprocess.run(
        [sys.executable, "-c", CLOCK],
        env={**environment(SETTINGS, env)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert float(told.stdout.split()[0]) > time.time() + 300 * 86400, "the clock was not wrong"
    figures(events=len(texts), trimmed=0)
