"""Settings of the benchmarks: PostgreSQL in a database of their own, this package and its peer side by side."""

from __future__ import annotations

from tests.settings import *  # noqa: F403 - the tests' apps and services, with what differs below
from tests.settings import INSTALLED_APPS, POSTGRESQL

NAME = "bench_django_sse"
DATABASES = {"default": {**POSTGRESQL, "NAME": NAME}}
INSTALLED_APPS = [*INSTALLED_APPS, "django_eventstream"]
EVENTSTREAM_STORAGE_CLASS = "django_eventstream.storage.DjangoModelStorage"
EVENTSTREAM_CHANNELMANAGER_CLASS = "django_eventstream.channelmanager.DefaultChannelManager"
LOGGING_CONFIG = None
DJANGO_SSE = {
    "BROKER": {"BACKEND": "django_sse.brokers.redis.RedisBroker", "OPTIONS": {"ALIAS": "redis"}},
    "MAX_STREAMS_PER_USER": None,
}
