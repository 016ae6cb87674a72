"""The project of measured.py, served for one measurement."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
_COMMANDS = {
    "daphne": ["daphne", "-b", "127.0.0.1", "-p", "0", "benchmarks.measured:application"],
    "uvicorn": ["uvicorn", "--port", "0", "--log-level", "warning", "benchmarks.measured:application"],
}


class Service(NamedTuple):
    port: int
    process: psutil.Process

    def post(self, path: str, body: bytes) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", path, body)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{path} answered {answer.status}")


@contextmanager
def serve(server: str, layer: str = "memory") -> Iterator[Service]:
    """Run ``server`` on an empty SQLite file until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        env = {
            **os.environ,
            "MEASURED_DATABASE": f"{folder}/db.sqlite3",
            "MEASURED_LAYER": layer,
            "PYTHONPATH": str(ROOT),
        }
        migrate = "import benchmarks.measured; from django.core.management import call_command\n"
        migrate += "call_command('migrate', verbosity=0)"
        subprocess.run([sys.executable, "-c", migrate], cwd=ROOT, env=env, check=True)
        process = subprocess.Popen(
            [sys.executable, "-m", *_COMMANDS[server]],
            cwd=ROOT,
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            watched = psutil.Process(process.pid)
            while not (
                ports := [s.laddr.port for s in watched.net_connections("tcp") if s.status == psutil.CONN_LISTEN]
            ):
                if process.poll() is not None:
                    raise RuntimeError(f"{server} ended with {process.returncode}")
                time.sleep(0.05)
            yield Service(ports[0], watched)
        finally:
            process.kill()
            process.wait()
