"""Settings of the real server behind the browser tests: the test suite's, with what gets in a stream's way."""

from __future__ import annotations

import os

import django

from tests.settings import *  # noqa: F403
from tests.settings import _SQLITE, INSTALLED_APPS, MIDDLEWARE, TEMPLATES

DATABASES = {"default": {**_SQLITE, "NAME": os.environ["BROWSER_TEST_DATABASE"]}}
DJANGO_SSE = {"HEARTBEAT": 0.3, "POLL_INTERVAL": 0.1, "RETRY": 200}
INSTALLED_APPS = [*INSTALLED_APPS, "tests.browser"]
MIDDLEWARE = [
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    *MIDDLEWARE,
    "tests.browser.middleware.record_requests",
    "tests.browser.middleware.strict_content_security_policy",
]
if django.VERSION >= (6, 0):
    TEMPLATES[0]["OPTIONS"]["context_processors"].append("django.template.context_processors.csp")
ROOT_URLCONF = "tests.browser.urls"
