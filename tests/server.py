"""Real servers as subprocesses, each on a port of its own choice of this machine alone."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Final
from wsgiref.simple_server import WSGIServer, make_server

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["ROOT", "Server", "environment", "free_port", "serve", "wait_for"]

ROOT: Final = Path(__file__).parent.parent
DEADLINE: Final = 60.0
"""Seconds until a condition that must come true is given up. Nothing is slower than this even on a busy machine."""
PAUSE: Final = 0.02

_WSGI: Final = ("--log-level=warning", "--worker-tmp-dir=/dev/shm", "django.core.wsgi:get_wsgi_application()")
_COMMANDS: Final = {
    "daphne": ["daphne", "-b", "127.0.0.1", "-p", "0", "tests.asgi:application"],
    "uvicorn": ["uvicorn", "--host", "127.0.0.1", "--port", "0", "tests.asgi:application"],
    "uvicorn-workers": ["uvicorn", "--host", "127.0.0.1", "--port", "0", "--workers", "2", "tests.asgi:application"],
    "gunicorn-asgi": ["gunicorn", "-kasgi", "-w2", "-b127.0.0.1:0", "--graceful-timeout=4", "tests.asgi:application"],
    "gunicorn-preload": [
        "gunicorn",
        "--preload",
        "-w4",
        "-kuvicorn_worker.UvicornWorker",
        "-b127.0.0.1:0",
        "tests.faults.preloaded",
    ],
    "granian": ["granian", "--interface=asgi", "--host", "127.0.0.1", "--port", "0", "tests.asgi:application"],
    "hypercorn": ["hypercorn", "--bind=127.0.0.1:0", "--graceful-timeout=1", "tests.asgi:application"],
    "wsgi": ["tests.server"],
    "gunicorn-sync": ["gunicorn", "--bind=127.0.0.1:0", "--workers=1", "--worker-class=sync", *_WSGI],
    "gthread": ["gunicorn", "--bind=127.0.0.1:0", "--workers=1", "--worker-class=gthread", "--threads=2", *_WSGI],
    "runserver": ["django", "runserver", "--noreload", "127.0.0.1:0"],
}


def wait_for(condition: Callable[[], object], what: str, seconds: float = DEADLINE) -> None:
    """Return as soon as ``condition()`` is true; fail, saying ``what`` did not happen, at the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(PAUSE)


def free_port() -> int:
    """Return a port that nobody has at this moment.

    Below those of outgoing connections: one that a test gives up for a while must still be free then, and whoever
    connects to it meanwhile must not be given this very port to call from, and so reach itself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def environment(settings: str, extra: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process with Django's ``settings`` module."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
        "DJANGO_SETTINGS_MODULE": settings,
        **extra,
    }


@dataclass
class Server:
    """A server that answers at ``127.0.0.1:port``."""

    port: int
    pid: int
    output: Path
    stopped: bool = False
    """The test has told it to stop, so it may be gone at the end."""

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait until the process has ended, and return its exit status."""
        self.stopped = True
        process = psutil.Process(self.pid)
        process.send_signal(number)
        return int(process.wait(DEADLINE))

    def log(self) -> str:
        return self.output.read_text(errors="replace")

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
        seconds: float = DEADLINE,
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and the whole body of a response that ends."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            return (
                response.status,
                {name.lower(): value for name, value in response.getheaders()},
                response.read(),
            )
        finally:
            connection.close()

    def answers(self) -> bool:
        try:
            self.request("HEAD", "/", seconds=5)
        except (OSError, HTTPException):
            return False
        return True


@contextmanager
def serve(
    server: str,
    settings: str,
    output: Path,
    env: Mapping[str, str] = {},
    *,
    tracebacks: bool = False,
    port: int = 0,
) -> Iterator[Server]:
    """Run ``server`` (a key of ``_COMMANDS``) until the block ends; its output goes to the file ``output``.

    ``port``: one of the test's own, for daphne and uvicorn; without it the kernel's choice.

    Fails where the server does not start, or wrote a traceback that was not announced by ``tracebacks``.
    """
    if server == "granian" and not port:  # its worker binds, and takes 0 for a port like any other
        port = free_port()
    with output.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *(str(port) if part == "0" else part for part in _COMMANDS[server])],
            cwd=ROOT,
            env=environment(settings, env),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    running = Server(0, process.pid, output)

    def listens() -> bool:
        assert process.poll() is None, f"{server} ended with {process.returncode}:\n{running.log()}"
        processes = [psutil.Process(process.pid)]
        if server == "granian":
            processes += processes[0].children()
        sockets = [one for process in processes for one in process.net_connections("tcp")]
        listening = [one.laddr.port for one in sockets if one.status == psutil.CONN_LISTEN]
        running.port = listening[0] if listening else 0
        return bool(listening) and running.answers()

    try:
        wait_for(listens, f"{server} answers")
        yield running
        assert running.stopped or process.poll() is None, f"{server} ended by itself with {process.returncode}"
    except BaseException as error:
        error.add_note(f"{server} wrote:\n{running.log()[-4000:]}")
        raise
    finally:
        # Not SIGTERM: servers wait for open streams, and some for ever.
        workers = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        for one in (process, *workers):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()
    assert tracebacks or "Traceback" not in running.log(), f"{server} wrote:\n{running.log()}"


class _Threading(ThreadingMixIn, WSGIServer):
    daemon_threads = True


def _serve_wsgi() -> None:
    from django.core.wsgi import get_wsgi_application

    with make_server("127.0.0.1", 0, get_wsgi_application(), server_class=_Threading) as server:
        server.serve_forever()


if __name__ == "__main__":
    _serve_wsgi()
