"""System checks. Each id means one fault."""

from __future__ import annotations

import os
import re
import sqlite3
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.utils.module_loading import import_string

from django_sse import conf
from django_sse.access import get_authorizer
from django_sse.asgi import DetachingApplication
from django_sse.brokers import get_broker
from django_sse.sequencer import NUMBERING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_access", "check_deployment", "check_settings"]

DESCRIPTORS: Final = 4096
"""Below this many open files a site with streams is warned."""

EXTRAS: Final = {"redis": "redis", "django_redis": "redis", "psycopg": "postgres", "channels": "channels"}
"""The extra of ours that brings a module that a broker imports."""


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Check ``settings.DJANGO_SSE`` and what it names."""
    wrong: list[CheckMessage] = [Error(complaint, hint=mend, id="django_sse.E001") for complaint, mend in conf.errors()]
    return wrong or list(_check_named())


def _check_named() -> Iterator[CheckMessage]:
    try:
        get_broker()
    except ImproperlyConfigured as error:
        hint = "BACKEND is the dotted path of a broker, such as 'django_sse.brokers.local.LocalBroker'."
        if extra := EXTRAS.get(_missing_module(error)):
            hint = f'Install what it needs: pip install "django-sse-feed[{extra}]"'
        yield Error(str(error), hint=hint, id="django_sse.E002")
    try:
        callable_ = callable(get_authorizer())
        complaint = "DJANGO_SSE['AUTHORIZE'] names something that cannot be called."
    except ImportError as error:
        callable_ = False
        complaint = f"DJANGO_SSE['AUTHORIZE'] cannot be loaded: {error}"
    if not callable_:
        yield Error(complaint, hint="It must be a function authorize(request, channel).", id="django_sse.E003")
    alias = conf.settings.DATABASE
    vendor = connections[alias].vendor
    if vendor not in NUMBERING:
        hint = "Point DJANGO_SSE['DATABASE'] at PostgreSQL, MySQL, MariaDB or SQLite."
        yield Error(f"The log cannot live in a {vendor} database.", hint=hint, id="django_sse.E004")
    elif vendor == "sqlite" and sqlite3.sqlite_version_info < (3, 33):
        hint = "Use a Python that is built with SQLite 3.33 or later, which has UPDATE ... FROM."
        yield Error(f"SQLite {sqlite3.sqlite_version} cannot number events.", hint=hint, id="django_sse.E005")
    if not connections[alias].settings_dict["AUTOCOMMIT"]:
        yield Error(
            f"DATABASES[{alias!r}] has AUTOCOMMIT = False, so a read of the log begins a transaction that nobody ends, "
            "and positions that are given in it are not committed.",
            hint="Leave AUTOCOMMIT out, and begin transactions with transaction.atomic() or ATOMIC_REQUESTS.",
            id="django_sse.E006",
        )
    yield from _check_versions()
    yield from _check_processes()
    if not getattr(django_settings, "ASGI_APPLICATION", None):
        yield Warning(
            "ASGI_APPLICATION is not set, so browsers will poll instead of being told at once.",
            hint="Set ASGI_APPLICATION and serve it with daphne or uvicorn. Polling on purpose? Silence this check.",
            id="django_sse.W001",
        )


def _missing_module(error: BaseException | None) -> str:
    while error:
        if isinstance(error, ModuleNotFoundError):
            return (error.name or "").partition(".")[0]
        error = error.__cause__
    return ""


FLOORS: Final[tuple[tuple[str, list[int], str, str], ...]] = (
    ("django", [5, 2], "5.2.16", "CVE-2026-48588 (private answers in a shared cache)"),
    ("django", [6, 0], "6.0.7", "CVE-2026-48588 (private answers in a shared cache)"),
    ("daphne", [], "4.2.2", "CVE-2026-44546 (headers forged by odd line ends)"),
    ("uvicorn", [], "0.11.7", "CVE-2020-7695 (headers forged by line ends in the URL)"),
)
"""Package, and series where it has several: the first version without what is named and without what came before."""


def _check_versions() -> Iterator[CheckMessage]:
    for package, series, floor, hole in FLOORS:
        try:
            installed = version(package)
        except PackageNotFoundError:
            continue
        numbers = _numbers(installed)
        if numbers[: len(series)] == series and numbers < _numbers(floor):
            yield Warning(
                f"{package} {installed} has a known hole that concerns event streams: {hole}.",
                hint=f"Use {package} {floor} or later.",
                id="django_sse.W004",
            )


def _numbers(text: str) -> list[int]:
    found = re.match(r"[0-9]+(?:\.[0-9]+)*", text)
    return [int(number) for number in found[0].split(".")] if found else []


def check_access(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check, for ``check --deploy``, that somebody decided who may read."""
    given = getattr(django_settings, "DJANGO_SSE", {})
    if isinstance(given, dict) and "AUTHORIZE" not in given:
        yield Warning(
            "DJANGO_SSE['AUTHORIZE'] is not set: everyone may read public.*, a user user.<pk> and tokens.<pk>.<name>, "
            "nobody anything else.",
            hint="Name your own rules. Is this what you want? Then set it to 'django_sse.access.authorize'.",
            id="django_sse.W005",
        )


def _check_processes() -> Iterator[CheckMessage]:
    try:
        broker = get_broker()
    except ImproperlyConfigured:
        return
    workers = os.environ.get("WEB_CONCURRENCY", "")
    if workers.isdecimal() and int(workers) > 1 and not getattr(broker, "crosses_processes", True):
        yield Warning(
            f"WEB_CONCURRENCY is {workers}, but the broker does not cross processes: most browsers are told by the "
            "next poll, and store=False events reach those of one process alone.",
            hint="Set DJANGO_SSE['BROKER'] to the Redis, PostgreSQL or channel layer broker; the layer must not be "
            "InMemoryChannelLayer.",
            id="django_sse.W006",
        )
    config = conf.settings.BROKER
    if config["BACKEND"] == "django_sse.brokers.postgres.PostgresBroker":
        alias = config.get("OPTIONS", {}).get("ALIAS", "default")
        if django_settings.DATABASES[alias].get("DISABLE_SERVER_SIDE_CURSORS"):
            yield Warning(
                f"The database {alias!r} has DISABLE_SERVER_SIDE_CURSORS, so it is probably a pgbouncer with "
                "pool_mode=transaction. LISTEN hears nothing through that: browsers are told by the poll alone.",
                hint="Name an alias that goes to PostgreSQL directly in OPTIONS['ALIAS'] of DJANGO_SSE['BROKER'].",
                id="django_sse.W007",
            )


def check_deployment(**kwargs: Any) -> Iterator[CheckMessage]:
    """Check, for ``check --deploy``, what limits or burdens a site with many streams."""
    descriptors = _descriptors()
    if 0 <= descriptors < DESCRIPTORS:
        yield Warning(
            f"This shell allows {descriptors} open files. Each open stream is one, so a server that is started "
            "here holds fewer streams than that, and then accepts no connection at all.",
            hint=f"Raise it to {DESCRIPTORS} or more: ulimit -n, or LimitNOFILE= of systemd.",
            id="django_sse.W008",
        )
    application = getattr(django_settings, "ASGI_APPLICATION", None)
    if application:
        try:
            import_string(application)
        except Exception:  # whatever it is, it is not ours to report
            return
        if not DetachingApplication.made:
            yield Warning(
                f"{application} is not made by django_sse.asgi, so every open stream holds a thread.",
                hint="In that module: from django_sse.asgi import get_asgi_application, in place of Django's.",
                id="django_sse.W009",
            )


def _descriptors() -> int:
    try:
        import resource  # not on Windows
    except ImportError:
        return -1
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
