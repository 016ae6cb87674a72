"""A service that streams, on this machine: what it answers, and in which pieces, is the test's word."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["Upstream", "upstream"]


@dataclass
class Upstream:
    """Answers every POST with ``pieces``: bytes, each written by itself, and seconds to wait between them."""

    url: str
    pieces: Iterable[bytes | float] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    silence: float = 0
    """Seconds before the answer begins."""
    complete: bool = True
    """Whether the body is ended as HTTP says, or cut."""
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    """Path, headers and JSON of each request."""
    left: int = 0
    """Clients that hung up before the end."""


@contextmanager
def upstream() -> Iterator[Upstream]:
    state: Upstream
    stopping = Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append((self.path, headers, json.loads(self.rfile.read(length))))
            if state.silence and stopping.wait(state.silence):
                return
            self.send_response(state.status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            self.send_header("Transfer-Encoding", "chunked")
            self.send_header("Connection", "close")
            self.end_headers()
            try:
                for piece in state.pieces:
                    if isinstance(piece, float):
                        if stopping.wait(piece):
                            break
                    elif piece:
                        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                        self.wfile.flush()
                if state.complete:
                    self.wfile.write(b"0\r\n\r\n")
            except OSError:
                state.left += 1
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    state = Upstream(f"http://127.0.0.1:{server.server_address[1]}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
