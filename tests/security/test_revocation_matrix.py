"""A right that ends closes the stream: by every cause, on the same and on another worker, with and without broker."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from tests.security.conftest import stream
from tests.security.views import CAUSES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.live.client import Client
    from tests.security.conftest import Somebody, Workers
    from tests.server import Server

TOLD = {
    "logout": "logout",
    "password": "password",
    "deactivated": "deactivated",
    "deleted": "deactivated",
    "group": "denied",
    "group-deleted": "denied",
    "permission": "denied",
    "closed-by-user": "because",
    "closed-by-channel": "because",
}
"""Causes that a signal or a call tells of, and the reason that the browser is given."""
UNSEEN = {
    "session-deleted": "expired",
    "session-expired": "expired",
    "object": "denied",
    "deactivated-unseen": "deactivated",
    "password-unseen": "expired",
}
"""Causes that nothing tells of: the next recheck finds them."""


def test_every_cause_is_tried() -> None:
    assert CAUSES.keys() | {"logout"} == TOLD.keys() | UNSEEN.keys()


@pytest.fixture(params=["broker up", "broker down"])
def broker(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=["same worker", "other worker"])
def where(request: pytest.FixtureRequest) -> str:
    return request.param


def end_right(worker: Server, cause: str, who: Somebody) -> None:
    path = "/out/" if cause == "logout" else f"/do/{cause}/{who.pk}/"
    assert worker.request("POST", path, headers=who.headers)[0] == 200


def until_closed(client: Client) -> str:
    """Return the reason with which the stream was closed."""
    client.until(lambda: client.ended, "the stream is closed")
    assert client.blocks[-1].type == "sse.close"
    assert client.body.endswith(b"event: sse.close\ndata: %s\n\n" % client.blocks[-1].data.encode())
    return json.loads(client.blocks[-1].data)["reason"]


def check(workers: Workers, cause: str, expected: str, where: str, broker: str) -> None:
    who, bystander = workers.log_in(), workers.log_in()
    worker = workers.one if where == "same worker" else workers.other
    with (
        stream(worker, who.channels, who.headers) as client,
        stream(worker, bystander.channels, bystander.headers) as other,
        silenced(workers, broker),
    ):
        begun = time.monotonic()
        end_right(workers.one, cause, who)
        assert until_closed(client) == expected
        print(f"{cause}, {where}, {broker}: closed after {time.monotonic() - begun:.2f} s")  # noqa: T201 - with -s
        workers.one.request("POST", f"/send/user.{bystander.pk}/", b'"still there"')
        other.has("still there")
        assert [block.type for block in other.blocks if block.type] == ["message"]
    if "closed" not in cause:
        status, _, body = worker.request("GET", "/events/?" + query(who), headers=who.headers)
        assert (status, body) == (403, b"You may not read these channels.\n")


def query(who: Somebody) -> str:
    return "&".join(f"channel={channel}" for channel in who.channels)


class silenced:  # noqa: N801 - reads as what it does
    def __init__(self, workers: Workers, broker: str) -> None:
        self._proxy = workers.broker
        self._down = broker == "broker down"

    def __enter__(self) -> None:
        if self._down:
            self._proxy.refuse()

    def __exit__(self, *error: object) -> None:
        self._proxy.accept()


@pytest.mark.parametrize(("cause", "expected"), TOLD.items())
def test_what_a_signal_tells_closes_by_a_notice(
    told: Workers, cause: str, expected: str, where: str, broker: str
) -> None:
    check(told, cause, expected, where, broker)


@pytest.mark.parametrize(("cause", "expected"), UNSEEN.items())
def test_what_nothing_tells_is_found_by_asking_again(
    asking: Workers, cause: str, expected: str, where: str, broker: str
) -> None:
    check(asking, cause, expected, where, broker)


@pytest.mark.parametrize("path", ["/mine/{}/", "/function/{}/"])
def test_the_developers_word_is_asked_again_too(asking: Workers, path: str) -> None:
    who = asking.log_in()
    order = who.channels[1].split(".")[1]
    with stream(asking.one, [], who.headers, path=path.format(order)) as client:
        asking.one.request("POST", f"/send/anything.{order}/", b'"mine"')
        client.has("mine")
        end_right(asking.other, "object", who)
        assert until_closed(client) == "denied"


@pytest.fixture(autouse=True)
def _broker_is_up(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in {"told", "asking"} & set(request.fixturenames):
        request.getfixturevalue(name).broker.accept()
