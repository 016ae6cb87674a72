"""The servers that the fan-out benchmark measures: how each is started, and how an event gets to its streams."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from benchmarks.load import Stream, WebSocket
from benchmarks.servers.event import data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

__all__ = ["FLOOR", "TARGETS", "UVICORN", "Publisher", "Running", "Target", "running"]

ROOT: Final = Path(__file__).parent.parent
HOST: Final = "127.0.0.1"
DEADLINE: Final = 30
"""Seconds in which a server must listen, and a publisher or a server must answer."""
APPLICATION_NAME: Final = "bench_server"
"""How PostgreSQL calls the server's connections."""
_UVICORN: Final = ["-m", "uvicorn", "--no-access-log", "--log-level", "error", "--port", "{port}"]
_NGINX: Final = """
daemon off; master_process off; worker_processes 1; error_log stderr crit; pid {folder}/pid;
load_module {module};
events {{ worker_connections 20000; }}
http {{
    access_log off; client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
    uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e; keepalive_requests 1000000; nchan_message_buffer_length 1000;
    nchan_shared_memory_size 256m;
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location /events/ {{
            nchan_subscriber eventsource; nchan_channel_id bench; nchan_subscriber_first_message newest;
        }}
        location /publish/ {{ nchan_publisher; nchan_channel_id bench; }}
    }}
}}
"""


class Publisher:
    """The other process of ``benchmarks.publisher``."""

    def __init__(self, process: asyncio.subprocess.Process, cookies: list[str]) -> None:
        self.cookies = cookies
        self._process = process
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, env: dict[str, str]) -> Publisher:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.publisher", stdin=-1, stdout=-1, cwd=ROOT, env=env
        )
        assert process.stdout
        try:
            first = await asyncio.wait_for(process.stdout.readline(), 60)
            return cls(process, json.loads(first)["cookies"])
        except BaseException:
            process.kill()
            raise

    async def publish(self, first: int, count: int, channels: Sequence[str], *, together: bool) -> dict[str, Any]:
        """Return the ``seconds`` that it took and the ``head`` of the log afterwards."""
        asked = {"first": first, "count": count, "channels": list(channels), "together": together}
        assert self._process.stdin
        assert self._process.stdout
        async with self._turn:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            answer = await asyncio.wait_for(self._process.stdout.readline(), DEADLINE)
        if not answer:
            raise RuntimeError("The publisher ended.")
        return dict(json.loads(answer))

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


class Running:
    """A started server."""

    def __init__(self, target: Target, port: int, process: psutil.Process, publisher: Publisher) -> None:
        self.target = target
        self.port = port
        self.publisher = publisher
        self._processes = [process, *process.children(recursive=True)]

    def cpu(self) -> float:
        """Seconds of processor time so far, of the process and its children."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes)

    def memory(self) -> int:
        """Bytes that would be free without it."""
        return sum(process.memory_full_info().uss for process in self._processes)

    def threads(self) -> int:
        return sum(process.num_threads() for process in self._processes)

    async def publish(self, first: int, count: int) -> None:
        await self.target.publish(self, first, count)

    async def post(self, path: str, body: bytes = b"") -> None:
        reader, writer = await asyncio.open_connection(HOST, self.port)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await asyncio.wait_for(reader.read(), DEADLINE)
        writer.close()
        if not answer.startswith(b"HTTP/1.1 20"):
            raise RuntimeError(f"{path} answered {answer[:200]!r}")


class Target:
    """A server that is told to publish by a request, which is how a memory-only one gets its events."""

    stream: type[Stream] = Stream
    """What a client of it is."""

    def __init__(
        self, name: str, *command: str, path: str = "/events/", login: bool = False, env: Mapping[str, str] = {}
    ) -> None:
        self.name = name
        self.command = command
        self.path = path
        self.login = login
        self.env = env

    def start(self, port: int, folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
        command = [part.format(port=port) for part in self.command]
        with (folder / "output").open("wb") as output:
            return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=env, stdout=output, stderr=output)

    async def publish(self, server: Running, first: int, count: int) -> None:
        await server.post(f"/publish/?first={first}&count={count}")


class _Channels(Target):
    stream = WebSocket

    async def publish(self, server: Running, first: int, count: int) -> None:
        await server.post(f"/publish-to-group/?first={first}&count={count}")


class _DjangoSSE(Target):
    """Published by another process, as by a worker of a task queue: PostgreSQL keeps it, Redis rings."""

    async def publish(self, server: Running, first: int, count: int) -> None:
        await server.publisher.publish(first, count, ["public.a"], together=count > 1)


class _Nchan(Target):
    def start(self, port: int, folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
        nginx = shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))
        modules = [
            place / "ngx_nchan_module.so" for place in map(Path, ("/usr/lib/nginx/modules", "/etc/nginx/modules"))
        ]
        module = next((path for path in modules if path.exists()), None)
        if not nginx or not module:
            raise FileNotFoundError("nginx with nchan is not here (Debian package libnginx-mod-nchan)")
        (folder / "nginx.conf").write_text(_NGINX.format(folder=folder, module=module, port=port))
        with (folder / "output").open("wb") as output:
            return subprocess.Popen(
                [nginx, "-p", folder, "-c", folder / "nginx.conf", "-e", "stderr"], stdout=output, stderr=output
            )

    async def publish(self, server: Running, first: int, count: int) -> None:
        """One POST an event, all on one connection."""
        reader, writer = await asyncio.open_connection(HOST, server.port)
        for number in range(first, first + count):
            body = data(number).encode()
            writer.write(
                b"POST /publish/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
            )
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), DEADLINE)
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await asyncio.wait_for(reader.readexactly(length), DEADLINE)
        writer.close()


_SITE: Final = "benchmarks.servers.django_site"
_EVENTS: Final = "/events/?channel=public.a"
FLOOR: Final = Target("floor: uvloop transport.write", "-m", "benchmarks.servers.floor", "{port}")
_POOL: Final = {"POOL": "8"}
"""Not for the others: one that holds a connection for each stream would come to its end with it."""
UVICORN: Final = _DjangoSSE(
    "**django_sse, uvicorn**", *_UVICORN, f"{_SITE}:application", path=_EVENTS, login=True, env=_POOL
)
TARGETS: Final = [
    FLOOR,
    UVICORN,
    Target("django-eventstream, uvicorn", *_UVICORN, f"{_SITE}:peer", path="/peer/", login=True),
    Target("sse-starlette, uvicorn (memory, no login)", *_UVICORN, "benchmarks.servers.starlette_site:application"),
    _DjangoSSE(
        "django_sse, daphne",
        *("-m", "daphne", "-v", "0", "-b", HOST, "-p", "{port}", f"{_SITE}:application"),
        path=_EVENTS,
        login=True,
        env=_POOL,
    ),
    _Channels("Channels WebSocket, uvicorn, Redis", *_UVICORN, f"{_SITE}:channels", path="/socket/", login=True),
    _Nchan("nchan (C; memory, no login)"),
]


@asynccontextmanager
async def running(target: Target, publisher: Publisher, env: dict[str, str]) -> AsyncIterator[Running]:
    """Serve ``target`` until the block ends. Raises ``RuntimeError`` with what the server wrote when it ends early."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        process = target.start(port, folder, {**env, **target.env, "PGAPPNAME": APPLICATION_NAME})
        try:
            end = time.monotonic() + DEADLINE
            while True:
                with suppress(OSError), socket.create_connection((HOST, port), 1):
                    break
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{target.name} does not listen: {(folder / 'output').read_text()[-2000:]}")
                await asyncio.sleep(0.05)
            yield Running(target, port, psutil.Process(process.pid), publisher)
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()
