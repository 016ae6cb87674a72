"""PostgreSQL, Redis and pgbouncer of the tests' own, each on its port: they may be stopped, killed and filled."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg
import redis

from tests.live.database import Database
from tests.server import DEADLINE, free_port, wait_for
from tests.services import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["OwnDatabase", "Pgbouncer", "PostgreSQL", "RedisServer", "own_postgresql", "own_redis"]

HOST: Final = "127.0.0.1"
AS_ROOT: Final = os.geteuid() == 0
"""PostgreSQL and pgbouncer refuse to run as root; then the user ``postgres`` runs them."""
CONFIGURATION: Final = {
    "listen_addresses": HOST,
    "max_connections": "300",
    "fsync": "off",  # what the process has written outlives the process; a power cut is not tried
    "log_min_messages": "fatal",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
}


class _Process:
    """A server of somebody else, started, stopped and killed at will."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and wait until it answers. What a killed one has left behind may make it start more than once."""
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if AS_ROOT else {}
        with (self.directory / "output").open("ab") as output:

            def runs() -> bool:
                if self._process is None or self._process.poll() is not None:
                    command = self.command()
                    self._process = subprocess.Popen(
                        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=self.directory, **user
                    )
                return self.answers()

            try:
                wait_for(runs, f"{type(self).__name__} answers, see {self.directory}/output")
            except BaseException:
                self.kill()
                raise

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it by this signal; SIGINT and SIGTERM let it say goodbye."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(DEADLINE)
            self._process = None

    def kill(self) -> None:
        self.stop(signal.SIGKILL)


class PostgreSQL(_Process):
    """A cluster in ``directory``. ``make_database`` gives copies of one migrated database."""

    def __init__(self, directory: Path, **configuration: str) -> None:
        super().__init__(directory)
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        if not found:
            missing("This test needs PostgreSQL's own programs under /usr/lib/postgresql.")
        self._programs = found[-1].parent
        self._data = directory / "data"
        self._settings = {**CONFIGURATION, "unix_socket_directories": str(directory), **configuration}
        self._count = 0
        self._migrated = False
        if AS_ROOT:
            shutil.chown(directory, "postgres", "postgres")
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if AS_ROOT else {}
        options = ["--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run(
            [self._programs / "initdb", "-D", self._data, *options],
            check=True,
            capture_output=True,
            cwd=directory,
            timeout=120,
            **user,
        )

    def command(self) -> list[str]:
        settings = [part for item in self._settings.items() for part in ("-c", "=".join(item))]
        return [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *settings]

    def answers(self) -> bool:
        try:
            self.connect("postgres").close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self, name: str) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=HOST, port=self.port, user="postgres", dbname=name, autocommit=True, connect_timeout=5
        )

    def make_database(self) -> OwnDatabase:
        """Return an empty, migrated database."""
        self._count += 1
        template, name = OwnDatabase(self, "migrated"), f"faults_{self._count}"
        with closing(self.connect("postgres")) as connection:
            if not self._migrated:
                connection.execute(f"CREATE DATABASE {template.name}")
                template.manage("migrate", "--run-syncdb", "--verbosity=0")
                self._migrated = True
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template.name}")
        return OwnDatabase(self, name)


class OwnDatabase(Database):
    """A database of the tests' own PostgreSQL."""

    def __init__(self, server: PostgreSQL, name: str) -> None:
        super().__init__("postgresql", name)
        self.server = server
        self.env |= {"PGHOST": HOST, "PGPORT": str(server.port), "PGUSER": "postgres"}

    def connect(self) -> psycopg.Connection[Any]:
        return self.server.connect(self.name)

    def terminate(self, where: str) -> int:
        """End the sessions of this database that ``where`` describes; return how many."""
        query = f"""SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = '{self.name}' AND pid <> pg_backend_pid() AND {where}"""
        return len(self.query(query))


class RedisServer(_Process):
    """A Redis that keeps nothing."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        if not shutil.which("redis-server"):
            missing("This test needs redis-server.")
        if AS_ROOT:
            shutil.chown(directory, "postgres", "postgres")
        self.url = f"redis://{HOST}:{self.port}/0"
        self.env = {"REDIS_URL": self.url}

    def command(self) -> list[str]:
        return ["redis-server", "--port", str(self.port), "--bind", HOST, "--save", "", "--appendonly", "no"]

    def answers(self) -> bool:
        try:
            with closing(redis.Redis.from_url(self.url, socket_timeout=5)) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


class Pgbouncer(_Process):
    """A pool in transaction mode in front of ``database``."""

    def __init__(self, directory: Path, database: OwnDatabase) -> None:
        super().__init__(directory)
        if not shutil.which("pgbouncer"):
            missing("This test needs pgbouncer.")
        if AS_ROOT:
            shutil.chown(directory, "postgres", "postgres")
        self.database = database
        self.env = {**database.env, "PGPORT": str(self.port)}
        (directory / "users.txt").write_text('"postgres" ""\n')
        (directory / "pgbouncer.ini").write_text(
            f"""[databases]
            * = host={HOST} port={database.server.port}
            [pgbouncer]
            listen_addr = {HOST}
            listen_port = {self.port}
            unix_socket_dir =
            auth_type = trust
            auth_file = {directory}/users.txt
            pool_mode = transaction
            default_pool_size = 10
            max_client_conn = 300
            """.replace("            ", "")
        )
        if AS_ROOT:
            for path in directory.iterdir():
                shutil.chown(path, "postgres", "postgres")

    def command(self) -> list[str]:
        return [shutil.which("pgbouncer") or "pgbouncer", str(self.directory / "pgbouncer.ini")]

    def answers(self) -> bool:
        try:
            psycopg.connect(
                host=HOST, port=self.port, user="postgres", dbname=self.database.name, connect_timeout=5
            ).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def directory(parent: str | None = None) -> Iterator[Path]:
    """A directory that another user can reach, which pytest's are not."""
    made = Path(tempfile.mkdtemp(prefix="django-sse-", dir=parent))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def own_postgresql(parent: str | None = None, **configuration: str) -> Iterator[PostgreSQL]:
    """A running PostgreSQL in a new directory below ``parent``."""
    with directory(parent) as place:
        server = PostgreSQL(place, **configuration)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)


@contextmanager
def own_redis() -> Iterator[RedisServer]:
    with directory() as place:
        server = RedisServer(place)
        server.start()
        try:
            yield server
        finally:
            server.kill()
