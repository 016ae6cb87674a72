"""The one reader of ``settings.DJANGO_SSE``.

Every setting is an annotated attribute of ``Settings`` whose value is the default. Values are read on each
access, so ``override_settings`` works and there is nothing to reset. ``errors()`` is what the system check prints.
"""

from __future__ import annotations

import re
from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings as django_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Settings", "errors", "settings"]


class Settings:
    AUTHORIZE: str | Callable[..., object] = "django_sse.access.authorize"
    """Dotted path or callable ``authorize(request, channel) -> bool``, sync or async."""
    RECHECK: float | None = 30
    """Seconds after which an open stream's right is asked for again; each stream waits 70 to 100 % of it."""
    ALLOWED_ORIGINS: Sequence[str] = ()
    """Origins of other sites whose pages may read, exactly as browsers send them."""
    MAX_STREAMS_PER_USER: int | None = 20
    """Open streams of one user, in all processes that the broker reaches."""
    MAX_STREAMS_PER_ADDRESS: int | None = None
    """Open streams from one address, in all processes that the broker reaches."""
    MAX_REPLAY: int | None = 10_000
    """Events a minute that one user, or one address, may have read again from the log in one process."""
    TRUSTED_PROXIES: int = 0
    """Proxies of yours that append to ``X-Forwarded-For``."""
    BROKER: Mapping[str, Any] = {"BACKEND": "django_sse.brokers.local.LocalBroker"}
    """``BACKEND``: dotted path of the doorbell between processes; ``OPTIONS``: what it wants to know."""
    DATABASE: str = "default"
    """Alias of the database that holds the log."""
    HEARTBEAT: float = 15
    """Seconds of silence after which a stream sends its position."""
    RETRY: int = 3000
    """Milliseconds a browser waits before it reconnects; each stream gets 50 to 150 % of it."""
    MAX_AGE: float = 3600
    """Seconds after which a stream ends, for the browser to come back; each stream gets 70 to 100 % of it."""
    POLL_INTERVAL: float = 1
    """Seconds between two looks at the log when no doorbell rings."""
    JOIN_WINDOW: float = 0
    """Seconds that a stream rests after each write, so that what comes meanwhile leaves as one."""
    WRITE_TIMEOUT: float = 30
    """Seconds after which a client that takes nothing of what is written to it is cut off."""
    RING_SIZE: int = 1000
    """Recent events that each process keeps encoded."""
    HANDLE_SIGNALS: bool = True
    """Whether SIGTERM and SIGINT end the streams of the process, before the server's own handler is called."""
    DEDICATED_SEQUENCER: bool = False
    """Whether ``sse_sequencer`` runs: publishers then leave it to that to give their events positions."""
    RETENTION: Mapping[str, Any] = {"MAX_AGE": timedelta(days=7), "MAX_EVENTS": None}
    """What ``sse_trim`` keeps: events up to this age, and at most so many; ``None`` is no bound."""
    MAX_CHANNELS: int = 20
    """Channels of one stream."""
    MAX_EVENT_BYTES: int = 65536
    """Bytes of one event's data, as UTF-8."""
    MAX_OPENING: int = 6
    """Streams that one process opens at a time: each takes a thread and a database connection until it is open."""

    def __getattribute__(self, name: str) -> Any:
        if not name.isupper():
            return super().__getattribute__(name)
        given = getattr(django_settings, "DJANGO_SSE", {})
        return given[name] if name in given else getattr(Settings, name)


settings: Final = Settings()

_POSITIVE: Final = ("HEARTBEAT", "RETRY", "MAX_AGE", "POLL_INTERVAL", "WRITE_TIMEOUT")
_LIMITS: Final = ("MAX_STREAMS_PER_USER", "MAX_STREAMS_PER_ADDRESS", "MAX_REPLAY")
_ORIGIN: Final = re.compile(r"[a-z][a-z0-9+.-]*://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[1-9][0-9]*)?")
_SWITCHES: Final = ("HANDLE_SIGNALS", "DEDICATED_SEQUENCER")
_COUNTS: Final = ("RING_SIZE", "MAX_CHANNELS", "MAX_EVENT_BYTES", "MAX_OPENING")


def errors() -> Iterator[tuple[str, str]]:
    """What is wrong with ``settings.DJANGO_SSE``: pairs of the complaint and the mend."""
    given = getattr(django_settings, "DJANGO_SSE", {})
    if not isinstance(given, dict):
        yield (
            f"DJANGO_SSE is {given!r}, not a dict.",
            'Write DJANGO_SSE = {"HEARTBEAT": 15}, or leave it out.',
        )
        return
    known = sorted(Settings.__annotations__)
    for key, value in given.items():
        if key not in known:
            near = get_close_matches(str(key).upper(), known, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"The keys are {', '.join(known)}."
            yield f"DJANGO_SSE has an unknown key {key!r}.", hint
        elif key in _POSITIVE and not (_is_number(value) and value > 0):
            yield f"DJANGO_SSE[{key!r}] is {value!r}.", "It must be a number greater than 0."
        elif key in _COUNTS and not (_is_number(value) and isinstance(value, int) and value > 0):
            yield f"DJANGO_SSE[{key!r}] is {value!r}.", "It must be a whole number greater than 0."
        elif key in _LIMITS and not (value is None or (_is_whole(value) and value > 0)):
            yield (
                f"DJANGO_SSE[{key!r}] is {value!r}.",
                "It must be a whole number greater than 0, or None for no limit.",
            )
        elif key == "RECHECK" and not (value is None or (_is_number(value) and value > 0)):
            yield f"DJANGO_SSE['RECHECK'] is {value!r}.", "It must be a number greater than 0, or None for never."
        elif key == "JOIN_WINDOW" and not (_is_number(value) and value >= 0):
            yield (
                f"DJANGO_SSE['JOIN_WINDOW'] is {value!r}.",
                "It must be a number of seconds, such as 0.02, 0 for none.",
            )
        elif key == "TRUSTED_PROXIES" and not (_is_whole(value) and value >= 0):
            yield f"DJANGO_SSE['TRUSTED_PROXIES'] is {value!r}.", "It must be a whole number, 0 for none."
        elif key == "ALLOWED_ORIGINS" and not _are_origins(value):
            example = '["https://app.example.org"]'
            yield (
                f"DJANGO_SSE['ALLOWED_ORIGINS'] is {value!r}.",
                f"It must be a list of origins in full and in lower case, like {example}; '*' and 'null' are none.",
            )
        elif key == "AUTHORIZE" and not (isinstance(value, str) or callable(value)):
            yield f"DJANGO_SSE['AUTHORIZE'] is {value!r}.", "It must be a callable or the dotted path of one."
        elif key == "DATABASE" and value not in django_settings.DATABASES:
            aliases = ", ".join(map(repr, django_settings.DATABASES))
            yield f"DJANGO_SSE['DATABASE'] is {value!r}.", f"It must be an alias in DATABASES: {aliases}."
        elif key == "BROKER" and not _is_broker(value):
            example = '{"BACKEND": "django_sse.brokers.redis.RedisBroker", "OPTIONS": {"ALIAS": "default"}}'
            yield f"DJANGO_SSE['BROKER'] is {value!r}.", f"It must be a dict like {example}, or without OPTIONS."
        elif key in _SWITCHES and not isinstance(value, bool):
            yield f"DJANGO_SSE[{key!r}] is {value!r}.", "It must be True or False."
        elif key == "RETENTION" and not _is_retention(value):
            example = '{"MAX_AGE": timedelta(days=7), "MAX_EVENTS": 100_000}, where None is no bound'
            yield f"DJANGO_SSE['RETENTION'] is {value!r}.", f"It must be a dict like {example}."


def _is_broker(value: object) -> bool:
    return (
        isinstance(value, dict) and isinstance(value.get("BACKEND"), str) and isinstance(value.get("OPTIONS", {}), dict)
    )


def _is_retention(value: object) -> bool:
    if not isinstance(value, dict) or not value.keys() <= {"MAX_AGE", "MAX_EVENTS"}:
        return False
    age, events = value.get("MAX_AGE"), value.get("MAX_EVENTS")
    return (age is None or (isinstance(age, timedelta) and age > timedelta(0))) and (
        events is None or (isinstance(events, int) and not isinstance(events, bool) and events > 0)
    )


def _are_origins(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) and _ORIGIN.fullmatch(one) for one in value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
