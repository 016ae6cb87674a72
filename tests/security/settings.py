"""Settings of the servers behind the security tests: the live tests' own, with users, groups and a broker."""

from __future__ import annotations

import json
import os

from tests.live.settings import *  # noqa: F403
from tests.live.settings import CACHES, DATABASES, DJANGO_SSE, MIDDLEWARE

ROOT_URLCONF = "tests.security.urls"
if "BROKER_URL" in os.environ:
    CACHES["broker"] = {**CACHES["redis"], "LOCATION": os.environ["BROKER_URL"]}
    DJANGO_SSE["BROKER"] = {
        "BACKEND": "django_sse.brokers.redis.RedisBroker",
        "OPTIONS": {"ALIAS": "broker"},
    }
if "NOTIFY_PORT" in os.environ:
    DATABASES["doorbell"] = {**DATABASES["default"], "HOST": "127.0.0.1", "PORT": os.environ["NOTIFY_PORT"]}
    DJANGO_SSE["BROKER"] = {
        "BACKEND": "django_sse.brokers.postgres.PostgresBroker",
        "OPTIONS": {"ALIAS": "doorbell"},
    }
DJANGO_SSE["AUTHORIZE"] = "tests.security.views.rules"
if os.environ.get("STRICT_PAGES"):
    DEBUG = True  # for the static files
    MIDDLEWARE = ["tests.security.policy.strict", *MIDDLEWARE]
if "CENSUS" in os.environ:
    from django_sse import census

    for _name, _seconds in json.loads(os.environ["CENSUS"]).items():
        setattr(census, _name, _seconds)
