"""The demo as it would be deployed: nginx, two uvicorn processes, PostgreSQL and Redis, all of them on this machine.

``make demo-cluster`` starts them with data in a temporary folder, and Ctrl-C or the end of the terminal stops them.
``DEMO_POSTGRESQL`` (a host) and ``DEMO_REDIS`` (an address) name servers that are there already, instead of those of
its own.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

from demo_project import nginx

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

PROCESSES: Final = 2
PATIENCE: Final = 30.0
"""Seconds in which a server must be there."""
STOPPING: Final = 10.0
"""Seconds in which one must be gone before it is killed."""
GRACE: Final = "4"
"""As in ``deploy/shop@.service``."""
ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, ``kill``, and the terminal that was closed."""


class CannotStart(Exception):
    """The cluster cannot run here; the message says why."""


class Cluster:
    """The started processes, in their order, each with a log in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._signals: dict[str, int] = {}
        self.before_stopping: Callable[[], object] = lambda: None

    def run(self, name: str, *command: str, stop: int = signal.SIGTERM, user: int | None = None) -> None:
        """Start ``command``; ``stop`` is the signal that ends it."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                user=user,
                # Ctrl-C is for us alone: we stop them one after the other.
                start_new_session=True,
            )
        self._signals[name] = stop

    def wait(self, name: str, condition: Callable[[], bool]) -> None:
        """Return when ``condition()`` is true; raise ``CannotStart`` where the process ends before, or is too slow."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.processes[name].poll() is not None or time.monotonic() > deadline:
                log = (self.folder / f"{name}.log").read_text(errors="replace")
                raise CannotStart(f"{name} does not start:\n{log[-2000:]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop all, the last one first: browsers before servers before data."""
        self.before_stopping()
        for name, process in reversed(self.processes.items()):
            process.send_signal(self._signals[name])
            try:
                process.wait(STOPPING)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _program(name: str, package: str, *folders: str) -> str:
    path = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *folders]))
    if path is None:
        raise CannotStart(f"{name} was not found. On Debian: apt-get install {package}")
    return path


def _start_postgresql(cluster: Cluster) -> str:
    """Start a PostgreSQL that listens on a socket alone, and return the folder of that."""
    # They say who the developer is on another server; the settings, psycopg and PostgreSQL itself would read them.
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    folders = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    initdb, postgres = (_program(name, "postgresql", *folders) for name in ("initdb", "postgres"))
    folder = cluster.folder / "postgresql"
    folder.mkdir()
    user = _unprivileged(folder)
    data = str(folder / "data")
    made = subprocess.run(
        [initdb, "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
        user=user,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise CannotStart(f"PostgreSQL cannot make a database:\n{made.stderr}")
    # SIGINT: its "fast shutdown", which does not wait for those who are connected.
    cluster.run(
        "postgresql", postgres, "-D", data, "-k", str(folder), "-c", "listen_addresses=", stop=signal.SIGINT, user=user
    )
    cluster.wait("postgresql", lambda: _accepts_connections(folder))
    return str(folder)


def _unprivileged(folder: Path) -> int | None:
    """Return who PostgreSQL is to run as, since it refuses root, and give them ``folder``; ``None``: as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam("postgres").pw_uid
    except KeyError as error:
        raise CannotStart(
            "PostgreSQL does not run as root, and there is no user postgres. Start this as somebody else, or name a "
            "server in DEMO_POSTGRESQL."
        ) from error
    os.chown(folder, user, -1)
    return user


def _accepts_connections(folder: Path) -> bool:
    import psycopg

    try:
        psycopg.connect(host=str(folder), user="postgres", dbname="postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def _start_redis(cluster: Cluster) -> str:
    """Start a Redis that listens on a socket alone, and return its address."""
    path = cluster.folder / "redis.sock"
    keep_nothing = ("--save", "", "--appendonly", "no", "--dir", str(cluster.folder))
    redis = _program("redis-server", "redis-server")
    cluster.run("redis", redis, "--port", "0", "--unixsocket", str(path), *keep_nothing)
    cluster.wait("redis", path.exists)
    return f"unix://{path}"


def _start_uvicorn(cluster: Cluster) -> list[int]:
    """Start the servers and return their ports."""
    ports = []
    for number in range(1, PROCESSES + 1):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        name = f"uvicorn {number}"
        options = ("--port", str(port), "--timeout-graceful-shutdown", GRACE, "--log-level", "warning")
        cluster.run(name, sys.executable, "-m", "uvicorn", *options, "demo_project.asgi:application")
        ports.append(port)
    for number, port in enumerate(ports, start=1):
        cluster.wait(f"uvicorn {number}", lambda port=port: _answers(port))  # type: ignore[misc]
    return ports


def _start_nginx(cluster: Cluster, port: int, upstreams: list[int], static: Path) -> None:
    program = nginx.find()
    if program is None:
        raise CannotStart("nginx was not found. On Debian: apt-get install nginx-light")
    folder = cluster.folder / "nginx"
    main = nginx.configure(folder, port, upstreams, static=static)
    cluster.run("nginx", program, "-p", str(folder), "-c", str(main), "-e", "stderr")
    cluster.wait("nginx", lambda: _answers(port))


def _answers(port: int) -> bool:
    try:
        # Not by way of http_proxy.
        build_opener(ProxyHandler({})).open(f"http://127.0.0.1:{port}/", timeout=5).close()
    except HTTPError as error:
        return error.code < 500
    except OSError:
        return False
    return True


def _start(cluster: Cluster) -> None:
    # The settings read these, here and in the servers.
    if not os.environ.get("DEMO_POSTGRESQL"):
        os.environ["DEMO_POSTGRESQL"] = _start_postgresql(cluster)
    if not os.environ.get("DEMO_REDIS"):
        os.environ["DEMO_REDIS"] = _start_redis(cluster)
    static = cluster.folder / "static"
    os.environ |= {"DEMO_STATIC_ROOT": str(static), "DJANGO_SETTINGS_MODULE": "demo_project.settings"}

    import django
    from django.core.management import CommandError, call_command

    django.setup()
    from demo_project.dashboard.management.commands import demo
    from demo_project.dashboard.sampler import Sampler

    try:
        port = demo.port_of_environment()
        demo.refuse_taken(port)
    except CommandError as error:
        raise CannotStart(str(error)) from error
    login = f"{demo.LOGIN}, password {demo.LOGIN} (this machine only)" if demo.prepare() else "as before"
    call_command("collectstatic", verbosity=0, interactive=False)
    _start_nginx(cluster, port, _start_uvicorn(cluster), static)
    sampler = Sampler(serves=False)  # here: a process that publishes and serves nobody
    sampler.start()
    cluster.before_stopping = sampler.stop
    address = f"http://{demo.HOST}:{port}/"
    print(f"Demo   {address}\nAdmin  {address}admin/\nLogin  {login}")  # noqa: T201
    for name, process in cluster.processes.items():
        print(f"{name:<12} process {process.pid}")  # noqa: T201
    print("Kill a uvicorn (kill -9 …) and watch the page.\nStop   Ctrl-C", flush=True)  # noqa: T201


def _watch(cluster: Cluster) -> None:
    """Say once of each process that it has ended, until it is time to stop."""
    gone: set[str] = set()
    while True:
        for name, process in cluster.processes.items():
            if name not in gone and process.poll() is not None:
                gone.add(name)
                print(f"{name} has ended with {process.returncode}.", flush=True)  # noqa: T201
        time.sleep(0.2)


def _interrupt(number: int, frame: FrameType | None) -> Any:
    _listen(signal.SIG_IGN)  # what was asked for is being done
    raise KeyboardInterrupt


def _listen(handler: Any) -> None:
    for number in ENDING:
        signal.signal(number, handler)


def main() -> int:
    _listen(_interrupt)  # also where a shell in the background has set SIGINT to be ignored
    with ExitStack() as stack:
        folder = Path(mkdtemp(prefix="django_sse-"))  # short: the address of a socket has 107 characters at most
        folder.chmod(0o711)  # as root, PostgreSQL and nginx run as others
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        cluster = Cluster(folder)
        stack.callback(cluster.stop)
        stack.callback(_listen, signal.SIG_IGN)
        try:
            _start(cluster)
            _watch(cluster)
        except CannotStart as error:
            print(error, file=sys.stderr)  # noqa: T201
            return 1
        except KeyboardInterrupt:
            with suppress(OSError):  # of a terminal that was closed
                print("Stopping.", flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
