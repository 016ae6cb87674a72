"""Settings of the Django projects that the fan-out benchmark serves: logged in, stored in PostgreSQL."""

from __future__ import annotations

import os

from benchmarks.settings import *  # noqa: F403 - what both benchmarks share
from benchmarks.settings import POSTGRESQL

NAME = os.environ.get("TEST_NAME", "bench_fanout")
DATABASES = {"default": {**POSTGRESQL, "NAME": "bench_fanout"}}
if "POOL" in os.environ:  # Django's own, of psycopg: a request takes a connection and gives it back
    DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 2, "max_size": int(os.environ["POOL"])}}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    "redis": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
        "KEY_PREFIX": f"{NAME}.fanout",
    },
}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            # Every consumer takes a connection, where redis-py stops at 100; and of a burst of 200 a channel keeps 100.
            "hosts": [{"address": CACHES["redis"]["LOCATION"], "max_connections": 10_000}],
            "capacity": 1000,
            "prefix": f"{NAME}.fanout",
        },
    }
}
ROOT_URLCONF = "benchmarks.servers.django_site"
ASGI_APPLICATION = "benchmarks.servers.django_site.application"
DEBUG = False
DJANGO_SSE = {
    "BROKER": {"BACKEND": "django_sse.brokers.redis.RedisBroker", "OPTIONS": {"ALIAS": "redis"}},
    "MAX_STREAMS_PER_USER": None,  # few users open many: by default each has 20, and what is over is told to come later
    "RING_SIZE": int(os.environ.get("RING_SIZE", "1000")),
}
