from __future__ import annotations

import sys
from datetime import timedelta
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import connection
from django.db.utils import ConnectionHandler

from django_sse import checks
from django_sse.asgi import DetachingApplication, get_asgi_application
from django_sse.checks import check_deployment, check_settings
from django_sse.conf import Settings, settings
from tests.settings import POSTGRESQL


def ids(messages: list[Any]) -> list[str]:
    return [message.id for message in messages]


def test_defaults_apply_without_a_setting(settings: Any) -> None:
    from django_sse.conf import settings as ours

    assert ours.HEARTBEAT == 15
    assert ours.MAX_EVENT_BYTES == 65536
    assert check_settings() == []


def test_a_setting_is_read_on_each_access(settings: Any) -> None:
    from django_sse.conf import settings as ours

    settings.DJANGO_SSE = {"HEARTBEAT": 3}
    assert ours.HEARTBEAT == 3
    settings.DJANGO_SSE = {}
    assert ours.HEARTBEAT == 15


def test_every_default_passes_its_own_check(settings: Any) -> None:
    settings.DJANGO_SSE = {name: getattr(Settings, name) for name in Settings.__annotations__}
    assert check_settings() == []


def test_an_unknown_key_names_the_right_one(settings: Any) -> None:
    settings.DJANGO_SSE = {"HEARTBEATS": 3, "nonsense": 1}
    near, far = check_settings()
    assert near.id == "django_sse.E001"
    assert near.hint == "Did you mean 'HEARTBEAT'?"
    assert "RETRY" in str(far.hint)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("HEARTBEAT", 0),
        ("HEARTBEAT", "15"),
        ("RETRY", -1),
        ("MAX_AGE", None),
        ("POLL_INTERVAL", True),
        ("RING_SIZE", 1.5),
        ("MAX_CHANNELS", 0),
        ("MAX_EVENT_BYTES", False),
        ("AUTHORIZE", 3),
        ("DATABASE", "nowhere"),
        ("BROKER", "django_sse.brokers.local.LocalBroker"),
        ("BROKER", {}),
        ("BROKER", {"BACKEND": "django_sse.brokers.local.LocalBroker", "OPTIONS": None}),
        ("BROKER", {"BACKEND": "django_sse.brokers.local.LocalBroker", "OPTIONS": "default"}),
        ("RECHECK", 0),
        ("MAX_STREAMS_PER_USER", 0),
        ("MAX_STREAMS_PER_ADDRESS", "20"),
        ("TRUSTED_PROXIES", -1),
        ("TRUSTED_PROXIES", True),
        ("ALLOWED_ORIGINS", "https://app.example.org"),
        ("ALLOWED_ORIGINS", ["*"]),
        ("ALLOWED_ORIGINS", ["null"]),
        ("ALLOWED_ORIGINS", ["https://app.example.org/"]),
        ("ALLOWED_ORIGINS", ["https://App.example.org"]),
        ("ALLOWED_ORIGINS", ["app.example.org"]),
        ("RETENTION", 7),
        ("RETENTION", {"DAYS": 7}),
        ("RETENTION", {"MAX_AGE": 7}),
        ("RETENTION", {"MAX_AGE": timedelta(0)}),
        ("RETENTION", {"MAX_EVENTS": 0}),
    ],
)
def test_a_wrong_value_is_an_error_that_says_what_it_must_be(settings: Any, key: str, value: Any) -> None:
    settings.DJANGO_SSE = {key: value}
    (error,) = check_settings()
    assert error.id == "django_sse.E001"
    assert key in error.msg
    assert "must be" in str(error.hint)


def test_a_setting_that_is_no_dict_is_an_error(settings: Any) -> None:
    settings.DJANGO_SSE = ["HEARTBEAT"]
    assert ids(check_settings()) == ["django_sse.E001"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"BROKER": {"BACKEND": "django_sse.brokers.nothing.Broker"}}, "django_sse.E002"),
        ({"AUTHORIZE": "nowhere.authorize"}, "django_sse.E003"),
        ({"AUTHORIZE": "django_sse.wire.MESSAGE"}, "django_sse.E003"),
    ],
)
def test_what_a_setting_names_must_exist(settings: Any, given: dict[str, Any], expected: str) -> None:
    settings.DJANGO_SSE = given
    assert ids(check_settings()) == [expected]


def test_a_database_that_cannot_number_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "vendor", "oracle")
    assert ids(check_settings()) == ["django_sse.E004"]


@pytest.mark.skipif("connection.vendor != 'sqlite'", reason="about SQLite")
def test_an_old_sqlite_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_sse.checks.sqlite3.sqlite_version_info", (3, 32, 3))
    assert ids(check_settings()) == ["django_sse.E005"]


def test_a_log_without_autocommit_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict, "AUTOCOMMIT", False)
    (error,) = check_settings()
    assert error.id == "django_sse.E006"
    assert "DATABASES['default']" in error.msg


def test_without_asgi_browsers_poll_and_a_warning_says_so(settings: Any) -> None:
    settings.ASGI_APPLICATION = None
    assert ids(check_settings()) == ["django_sse.W001"]


@pytest.mark.parametrize(
    ("workers", "backend", "expected"),
    [
        ("4", "local.LocalBroker", ["django_sse.W006"]),
        ("1", "local.LocalBroker", []),
        ("many", "local.LocalBroker", []),
        ("4", "redis.RedisBroker", []),
    ],
)
def test_many_workers_want_a_broker_that_crosses_processes(
    settings: Any, monkeypatch: pytest.MonkeyPatch, workers: str, backend: str, expected: list[str]
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", workers)
    settings.DJANGO_SSE = {"BROKER": {"BACKEND": f"django_sse.brokers.{backend}", "OPTIONS": {"ALIAS": "redis"}}}
    assert ids(check_settings()) == expected


def test_a_layer_in_memory_does_not_cross_processes(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    settings.DJANGO_SSE = {"BROKER": {"BACKEND": "django_sse.brokers.channel_layer.ChannelLayerBroker"}}
    (warning,) = check_settings()
    assert warning.id == "django_sse.W006"
    assert "InMemoryChannelLayer" in str(warning.hint)


@pytest.mark.parametrize(
    ("backend", "missing", "extra"),
    [
        ("redis.RedisBroker", "redis", "redis"),
        ("redis.RedisBroker", "django_redis", "redis"),
        ("postgres.PostgresBroker", "psycopg", "postgres"),
        ("channel_layer.ChannelLayerBroker", "channels", "channels"),
    ],
)
def test_a_broker_whose_extra_is_missing_names_it(
    settings: Any, monkeypatch: pytest.MonkeyPatch, backend: str, missing: str, extra: str
) -> None:
    for name in tuple(sys.modules):
        if name.split(".")[0] == missing or name == f"django_sse.brokers.{backend.split('.')[0]}":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    settings.CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://127.0.0.1"}}
    settings.DJANGO_SSE = {"BROKER": {"BACKEND": f"django_sse.brokers.{backend}"}}
    (error,) = check_settings()
    assert error.id == "django_sse.E002"
    assert f'pip install "django-sse-feed[{extra}]"' in str(error.hint)


def test_listening_through_a_transaction_pool_is_warned_of(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pooled = {**POSTGRESQL, "DISABLE_SERVER_SIDE_CURSORS": True}
    monkeypatch.setitem(settings.DATABASES, "pooled", pooled)
    monkeypatch.setattr("django_sse.brokers.postgres.connections", ConnectionHandler({"default": {}, "pooled": pooled}))
    broker = {"BACKEND": "django_sse.brokers.postgres.PostgresBroker", "OPTIONS": {"ALIAS": "pooled"}}
    settings.DJANGO_SSE = {"BROKER": broker}
    assert ids(check_settings()) == ["django_sse.W007"]


def test_few_open_files_are_warned_of_before_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 4096))
    assert ids(list(check_deployment())) == ["django_sse.W008"]
    monkeypatch.setattr("resource.getrlimit", lambda _: (-1, -1))  # no limit
    assert ids(list(check_deployment())) == []


def test_who_serves_with_djangos_own_application_is_told(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (65536, 65536))
    monkeypatch.setattr(DetachingApplication, "made", False)
    settings.ASGI_APPLICATION = "django.core.asgi.get_asgi_application"
    assert ids(list(check_deployment())) == ["django_sse.W009"]
    settings.ASGI_APPLICATION = "nowhere.application"
    assert ids(list(check_deployment())) == []
    get_asgi_application()
    settings.ASGI_APPLICATION = "tests.asgi.application"
    assert ids(list(check_deployment())) == []


def test_the_check_is_registered(settings: Any) -> None:
    settings.DJANGO_SSE = {"HEARTBEATS": 3}
    assert "django_sse.E001" in ids(run_checks())


def test_a_name_that_is_no_setting_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError):
        _ = settings.NO_SUCH_SETTING  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("package", "installed", "expected"),
    [
        ("django", "5.2.15", "5.2.16"),
        ("django", "5.2.16", None),
        ("django", "5.2.19rc1", None),
        ("django", "6.0.6", "6.0.7"),
        ("django", "6.1", None),
        ("daphne", "4.2.1", "4.2.2"),
        ("daphne", "4.1", "4.2.2"),
        ("daphne", "4.2.2", None),
        ("daphne", "4.10", None),
        ("uvicorn", "0.11.6", "0.11.7"),
        ("uvicorn", "0.9.0", "0.11.7"),
        ("uvicorn", "0.54.0", None),
        ("uvicorn", "", "0.11.7"),
    ],
)
def test_a_version_with_a_known_hole_is_named(
    monkeypatch: pytest.MonkeyPatch, package: str, installed: str, expected: str | None
) -> None:
    def version(name: str) -> str:
        if name != package:
            raise PackageNotFoundError(name)
        return installed

    monkeypatch.setattr(checks, "version", version)
    found = [message for message in check_settings() if message.id == "django_sse.W004"]
    assert [expected in str(message.hint) for message in found] == ([True] if expected else [])


def test_the_versions_of_this_run_are_good() -> None:
    assert "django_sse.W004" not in ids(check_settings())


def test_before_a_deployment_somebody_ought_to_have_decided(settings: Any) -> None:
    assert ids(run_checks(include_deployment_checks=True, tags=None)).count("django_sse.W005") == 1
    assert "django_sse.W005" not in ids(run_checks())
    settings.DJANGO_SSE = {"AUTHORIZE": "django_sse.access.authorize"}
    assert list(checks.check_access()) == []
    settings.DJANGO_SSE = []
    assert list(checks.check_access()) == []
