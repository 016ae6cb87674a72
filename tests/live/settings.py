"""Settings of the servers that the live tests start: which database and ``DJANGO_SSE`` come from the environment."""

from __future__ import annotations

import json
import os
import select
import time

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

if os.environ["DATABASE"] == "sqlite":
    DATABASES["default"]["NAME"] = os.environ["LIVE_SQLITE"]
INSTALLED_APPS = [*INSTALLED_APPS, "tests.live"]
if "FAKETIME_TIMESTAMP_FILE" in os.environ:
    # libfaketime makes nonsense of the absolute time that time.sleep() sleeps to: a jump in between is EINVAL.
    time.sleep = lambda seconds: select.select([], [], [], seconds) and None  # type: ignore[func-returns-value]
if os.environ.get("PLAIN_RUNSERVER"):
    INSTALLED_APPS.remove("daphne")
ROOT_URLCONF = "tests.live.urls"
DJANGO_SSE = {"AUTHORIZE": "tests.live.views.authorize", **json.loads(os.environ.get("LIVE_SSE", "{}"))}
# Without DEBUG Django mails what went wrong in a view. Here it must be seen in the server's output.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "WARNING"},
    "loggers": {"django_sse.connection": {"level": "INFO"}},
}
