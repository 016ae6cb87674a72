"""A Redis that wants a password, and one that speaks TLS, as the cache of django-redis names them."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from django_sse.brokers.redis import RedisBroker
from tests.brokers.test_contract import listening
from tests.faults.backing import AS_ROOT, HOST, RedisServer, directory
from tests.services import missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "only for tests"


class WithPassword(RedisServer):
    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.location, self.options = self.url, {"PASSWORD": PASSWORD}
        self.url = self.url.replace("//", f"//:{PASSWORD.replace(' ', '%20')}@")

    def command(self) -> list[str]:
        return [*super().command(), "--requirepass", PASSWORD]


class WithTLS(RedisServer):
    def __init__(self, place: Path) -> None:
        super().__init__(place)
        if not shutil.which("openssl"):
            missing("This test needs openssl.")
        self.certificate, self.key = place / "certificate.pem", place / "key.pem"
        make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=test"]
        names = ["-addext", f"subjectAltName=IP:{HOST}", "-out", str(self.certificate), "-keyout", str(self.key)]
        subprocess.run([*make, *names], check=True, capture_output=True)
        if AS_ROOT:
            shutil.chown(self.key, "postgres")
        self.location = self.url.replace("redis://", "rediss://")
        self.options = {"CONNECTION_POOL_KWARGS": {"ssl_ca_certs": str(self.certificate)}}
        self.url = f"{self.location}?ssl_ca_certs={self.certificate}"

    def command(self) -> list[str]:
        files = ["--tls-cert-file", str(self.certificate), "--tls-key-file", str(self.key)]
        ports = ["--port", "0", "--tls-port", str(self.port)]
        return [*super().command(), *ports, *files, "--tls-auth-clients", "no"]


@pytest.fixture(params=[WithPassword, WithTLS])
def guarded(request: pytest.FixtureRequest) -> Iterator[Any]:
    with directory() as place:
        server = request.param(place)
        server.start()
        try:
            yield server
        finally:
            server.kill()


async def test_the_cache_says_how_to_get_in(guarded: Any, settings: Any) -> None:
    cache = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": guarded.location, "OPTIONS": guarded.options}
    settings.CACHES = {"guarded": cache}
    here, there = RedisBroker({"ALIAS": "guarded"}), RedisBroker({"ALIAS": "guarded"})
    async with listening(there) as hearing:
        rings = hearing.rings
        here.notify(1)
        here.send("a", "message", "1")
        await hearing.until(lambda: hearing.rings > rings and len(hearing.events) == 1)
