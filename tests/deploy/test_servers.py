"""Each server as docs/deployment.md says to run it, behind nginx: delivers, and ends its streams at SIGTERM."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from configparser import ConfigParser
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.live.client import connect
from tests.live.conftest import QUICK_POLL
from tests.live.database import SETTINGS
from tests.nginx import DEPLOY, nginx
from tests.server import ROOT, Server, environment, free_port, wait_for
from tests.services import missing
from tests.test_docs import quoted, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.live.database import Database

BIN = Path(sys.executable).parent
STREAMS = 20
PROMISED = 5.0
"""Seconds from SIGTERM to the end."""
COMMANDS = [command for row in rows("docs/deployment.md", "## Servers") for command in quoted(row[0])]


@contextmanager
def running(command: list[str], port: int, database: Database, output: Path) -> Iterator[Server]:
    """Run ``command``, of the environment that the tests run in, until the block ends."""
    program = BIN / Path(command[0]).name
    if not program.exists():
        missing(f"This test needs {program.name}: pip install --group test.")
    env = {**database.env, "LIVE_SSE": json.dumps({"POLL_INTERVAL": QUICK_POLL})}
    with output.open("w") as file:
        process = subprocess.Popen(
            [str(program), *command[1:]],
            cwd=ROOT,
            env=environment(SETTINGS, env),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    server = Server(port, process.pid, output)
    try:
        wait_for(lambda: process.poll() is not None or server.answers(), f"{command} answers")
        assert process.poll() is None, f"{command} ended with {process.returncode}:\n{server.log()}"
        yield server
    except BaseException as error:
        error.add_note(f"{command} wrote:\n{server.log()[-4000:]}")
        raise
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.wait()


def adapted(command: str, port: int) -> list[str]:
    """``command`` for the tests' application and port."""
    assert command.count("8000") == command.count("shop.asgi:application") == 1, command
    return shlex.split(command.replace("8000", str(port)).replace("shop.asgi", "tests.asgi"))


def check(command: list[str], port: int, database: Database, directory: Path, *, all_told: bool) -> None:
    """``all_told``: SIGTERM goes to every process of the server, as systemd sends it; otherwise to the first alone."""
    with (
        running(command, port, database, directory.parent / "server.log") as server,
        nginx(directory, port) as front,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(connect(front, ["public.a"])) for _ in range(STREAMS)]
        database.manage("sse_send", "public.a", "message", '"from another process"')
        for client in clients:
            client.has("from another process")
        others = psutil.Process(server.pid).children(recursive=True) if all_told else []
        began = time.monotonic()
        for other in others:
            other.send_signal(signal.SIGTERM)
        server.stop(signal.SIGTERM)
        assert time.monotonic() - began < PROMISED
        for client in clients:
            assert client.over().ended, "cut instead of ended"


@pytest.mark.parametrize("all_told", [True, False], ids=["all", "first"])
@pytest.mark.parametrize("command", COMMANDS)
def test_it_delivers_and_ends_as_promised(command, all_told, database, directory):
    if command.startswith("hypercorn") and not all_told and sys.version_info >= (3, 12):
        pytest.skip("hypercorn tells its workers nothing that a stream can hear; see docs/deployment.md")
    port = free_port()
    check(adapted(command, port), port, database, directory, all_told=all_told)


def exec_start(unit: str) -> str:
    (command,) = re.findall(r"^ExecStart=/srv/shop/\.venv/bin/(.+)$", (DEPLOY / unit).read_text(), re.MULTILINE)
    return command


def test_the_unit_runs_what_the_table_says():
    command = exec_start("shop@.service").replace("%i", "8000")
    assert command == COMMANDS[0]


def directive(section: str, name: str) -> str:
    """The value in ``shop@.service``."""
    unit = ConfigParser(interpolation=None)
    unit.read(DEPLOY / "shop@.service")
    return unit[section][name]


@contextmanager
def started_post(port: int, main_process: int) -> Iterator[subprocess.Popen[str]]:
    """What systemd runs, and waits for, once it has started the server."""
    command = shlex.split(directive("Service", "ExecStartPost").replace("%i", str(port)))
    env = {**os.environ, "MAINPID": str(main_process)}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_restart_returns_when_the_port_answers():
    port = free_port()
    with started_post(port, os.getpid()) as waiting:
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(1)
        with socket.create_server(("127.0.0.1", port)):
            assert waiting.wait(PROMISED) == 0


def test_a_restart_fails_where_the_server_ends():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    with started_post(free_port(), ended.pid) as waiting:
        assert waiting.wait(PROMISED) != 0


def test_the_unit_is_never_given_up():
    assert directive("Service", "Restart") == "always"
    assert directive("Unit", "StartLimitIntervalSec") == "0"


def test_the_units_trim_runs(database):
    python, manage, *arguments = shlex.split(exec_start("shop-trim.service"))
    assert (python, manage) == ("python", "manage.py")
    assert "Trimmed 0 events" in database.manage(*arguments)


@pytest.mark.parametrize(
    "unit", sorted(path.name for path in DEPLOY.iterdir() if path.suffix in (".service", ".timer"))
)
def test_systemd_takes_the_unit(unit, tmp_path):
    program = shutil.which("systemd-analyze") or missing("This test needs systemd-analyze (Debian package systemd).")
    for path in DEPLOY.glob("shop*"):
        text = path.read_text().replace("/srv/shop/.venv/bin/uvicorn", "/bin/true").replace("User=shop", "User=root")
        text = text.replace("/srv/shop/.venv/bin/python", "/bin/true").replace("=/srv/shop", "=/")
        (tmp_path / path.name).write_text(text)
    name = unit.replace("@", "@8000")
    (tmp_path / unit).rename(tmp_path / name)
    done = subprocess.run(
        [program, "verify", str(tmp_path / name)], capture_output=True, text=True, timeout=60, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "shop" in line]
    assert (done.returncode, ours) == (0, []), done.stderr
