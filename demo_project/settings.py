"""Settings of the demo, for this machine alone: one process and one SQLite file, or what the environment names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

BASE_DIR = Path(__file__).resolve().parent.parent

DEBUG = True
SECRET_KEY = "the demo runs on loopback only and has nothing to keep secret"
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "daphne",  # first: it brings the runserver that can keep a stream open
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_sse",
    "demo_project.ask",
    "demo_project.dashboard",
    "demo_project.orders",
    "demo_project.raw",
    "demo_project.reconnect",
    "demo_project.versus",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "demo_project.policy.content_security_policy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
ROOT_URLCONF = "demo_project.urls"
ASGI_APPLICATION = "demo_project.asgi.application"

DATABASES: dict[str, dict[str, Any]] = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DEMO_DATABASE") or BASE_DIR / "demo.sqlite3",
        "OPTIONS": {
            # Readers never wait for the writer, and a writer queues at the door instead of failing half way.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        },
    }
}
# For the WebSockets of one page; in memory, so of one process.
CHANNEL_LAYERS: dict[str, dict[str, Any]] = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
# The switches of demo_project.cluster: a server's host or the folder of its socket; an address that redis-py takes.
if host := os.environ.get("DEMO_POSTGRESQL"):
    DATABASES["default"] = {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": host,
        "PORT": os.environ.get("PGPORT", ""),
        "NAME": os.environ.get("PGDATABASE", "postgres"),
        "USER": os.environ.get("PGUSER", "postgres"),
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
    }
if address := os.environ.get("DEMO_REDIS"):
    CACHES = {"default": {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": address, "KEY_PREFIX": "demo"}}
    DJANGO_SSE = {"BROKER": {"BACKEND": "django_sse.brokers.redis.RedisBroker"}}
    _layer = {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [address], "prefix": "demo"}}
    CHANNEL_LAYERS["default"] = _layer
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = os.environ.get("DEMO_STATIC_ROOT")  # in the cluster nginx serves them
TIME_ZONE = "UTC"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    # The terminal stays with what the demo command printed; refusals and failures still show.
    "loggers": {"django.channels.server": {"level": "WARNING"}},
}
