"""A real nginx with the very files of ``deploy/``, as whoever runs the tests, on a port of this machine alone."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from demo_project.nginx import DEPLOY, configure, find
from tests.server import Server, free_port, wait_for
from tests.services import missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from subprocess import Popen

__all__ = ["DEPLOY", "binary", "configure", "nginx"]

ATTEMPTS: Final = 5
"""Ports that are tried: between the choice and nginx's start somebody else may take one."""


def binary() -> str:
    """Return nginx's path; skip the test where there is none."""
    return find() or missing("This test needs nginx (Debian package nginx-light).")


def _start(directory: Path, *upstreams: int, static: Path | None, **replaced: str) -> tuple[Popen[bytes], Server]:
    """Return nginx when it answers or has ended."""
    program, log, port = binary(), directory / "nginx.log", free_port()
    main = configure(directory, port, upstreams, static=static, replaced=replaced)
    with log.open("w") as file:
        process = subprocess.Popen(
            [program, "-p", str(directory), "-c", str(main), "-e", "stderr", "-g", _as_whoever_runs_it()],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    running = Server(port, process.pid, log)
    # As soon as it listens it answers, at least with 502.
    wait_for(lambda: process.poll() is not None or running.answers(), "nginx answers or ends")
    return process, running


def _as_whoever_runs_it() -> str:
    """Started by root nginx becomes another user, who may not be allowed to read the checkout."""
    return "user root;" if os.geteuid() == 0 else ""


@contextmanager
def nginx(directory: Path, *upstreams: int, static: Path | None = None, **replaced: str) -> Iterator[Server]:
    """Run nginx in front of the ``upstreams`` until the block ends; they need not be there yet. See ``configure``;
    ``replaced`` is text of ``site.conf``, such as ``**{"60s;": "1s;"}``.

    ``directory`` is its own: its configuration, its log (``nginx.log``) and its temporary files.
    """
    for _ in range(ATTEMPTS):
        process, running = _start(directory, *upstreams, static=static, **replaced)
        if process.poll() is None:
            break
        assert "Address already in use" in running.log(), f"nginx ended with {process.returncode}:\n{running.log()}"
    else:
        raise AssertionError(f"No port was free:\n{running.log()}")
    try:
        yield running
        assert running.stopped or process.poll() is None, f"nginx ended by itself with {process.returncode}"
    except BaseException as error:
        error.add_note(f"nginx wrote:\n{running.log()[-4000:]}")
        raise
    finally:
        process.terminate()  # fast: open connections are cut, and the workers end too
        process.wait(10)
