"""A daphne of our own, in its own process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Server"]

ROOT = Path(__file__).parent.parent.parent


class Server:
    def __init__(self, directory: Path) -> None:
        self._environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.browser.settings",
            "BROWSER_TEST_DATABASE": str(directory / "db.sqlite3"),
        }
        self.manage("migrate", "--verbosity=0")
        self.log = directory / "daphne.log"
        # It inherits a socket that listens already: whoever connects before it is up waits, without asking again.
        with socket.create_server(("127.0.0.1", 0), backlog=128) as listener, self.log.open("wb") as log:
            self.address: tuple[str, int] = listener.getsockname()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "daphne", "--fd", str(listener.fileno()), "tests.asgi:application"],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=[listener.fileno()],
            )

    def manage(self, *arguments: str) -> str:
        """Run a management command in a process of its own."""
        command = [sys.executable, "-m", "django", *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, check=True, timeout=60, stdout=subprocess.PIPE, text=True
        )
        return done.stdout

    def get(self, path: str, query: Mapping[str, str] | None = None, body: Any = None) -> Any:
        """Return the body of an answer, read as JSON where it is."""
        url = f"http://{self.address[0]}:{self.address[1]}{path}?{urlencode(query or {})}"
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(url, data=data), timeout=30) as response:
            answer = response.read().decode()
            return json.loads(answer) if response.headers["Content-Type"] == "application/json" else answer

    def publish(self, *events: Mapping[str, Any]) -> list[Any]:
        """Publish in the process of the server; return the positions."""
        return self.get("/control/publish/", body=events)["positions"]

    def end_and_publish(self, channel: str, *events: Mapping[str, Any]) -> list[Any]:
        """End the streams of ``channel`` cleanly and then publish: what follows can only come by reconnecting."""
        answer = self.get("/control/publish/", {"end": channel}, events)
        assert answer["ended"] == 1
        return answer["positions"]

    def requests(self, channel: str) -> list[dict[str, Any]]:
        """Return what was asked for of ``channel``, in order."""
        return self.get("/control/requests/", {"channel": channel})

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
