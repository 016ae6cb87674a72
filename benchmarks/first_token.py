"""How much later than it was made does a client see the first token? ``python -m benchmarks.first_token``

Two ways, on two servers, one request after the other: EventStreamResponse, where the producer thinks for 50 ms; and
token_stream, through the log, to a reader in the same process.
"""

from __future__ import annotations

import json
import socket
import statistics
import sys
import time

from benchmarks.service import serve

COUNT = 200


def _until(client: socket.socket, what: bytes) -> bytes:
    """Read until a line that begins with ``what`` is complete."""
    body = b""
    while b"\n" not in body.partition(what)[2]:
        if not (data := client.recv(65536)):
            raise EOFError(body)
        body += data
    return body


def _first(port: int) -> float:
    """Milliseconds from the request to the first token, over what the producer itself needed."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        asked = time.monotonic()
        client.sendall(b"GET /first/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        body = _until(client, b"data: ")
        arrived = time.monotonic()
    thought = float(body.split(b"data: ")[1].split(b"\n")[0])
    return (arrived - asked - thought) * 1000


def _logged(port: int, channel: str) -> float:
    """Milliseconds from ``send`` to the reader. Server and client read the same clock."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(f"GET /events/?channel={channel} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        _until(client, b"id: ")
        with socket.create_connection(("127.0.0.1", port)) as other:
            other.sendall(f"GET /logged/?channel={channel} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            body = _until(client, b"data: ")
            arrived = time.monotonic()
            other.recv(65536)
    data = body.split(b"data: ")[1].split(b"\n")[0]
    return (arrived - float(json.loads(data)["text"])) * 1000


def _say(title: str, figures: list[float]) -> None:
    figures.sort()
    median, late = statistics.median(figures), figures[int(len(figures) * 0.95)]
    sys.stdout.write(f"{title:<34} median {median:6.2f} ms   95 % {late:6.2f} ms   of {len(figures)}\n")


def main() -> None:
    for server in ("uvicorn", "daphne"):
        with serve(server) as service:
            for _ in range(20):
                _first(service.port)
            _say(f"{server}, EventStreamResponse", [_first(service.port) for _ in range(COUNT)])
            _say(
                f"{server}, token_stream",
                [_logged(service.port, f"public.{number}") for number in range(COUNT // 4)],
            )


if __name__ == "__main__":
    main()
