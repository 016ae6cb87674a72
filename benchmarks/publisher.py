"""The process that publishes through django_sse: not the server's, not the clients'. Asked and answering in JSON lines.

The first line that it writes has the sessions of users who are logged in. It is asked with ``first`` and ``count``,
``channels`` that the events go to in turn, and ``together``: whether by one ``send_events`` or one call each.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.servers.settings")
django.setup()

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402

from benchmarks.servers.event import values  # noqa: E402
from django_sse import send_event, send_events  # noqa: E402
from django_sse.models import Head  # noqa: E402

USERS = 50


def _log_in(number: int) -> str:
    user, _ = User.objects.get_or_create(username=f"user{number}")
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return str(session.session_key)


def _publish(first: int, count: int, channels: list[str], together: bool) -> dict[str, Any]:
    began = time.monotonic()
    items = ((channels[number % len(channels)], None, values(number)) for number in range(first, first + count))
    if together:
        send_events(items)
    else:
        for item in items:
            send_event(*item)
    seconds = time.monotonic() - began
    return {"seconds": seconds, "head": Head.objects.get().position}


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main() -> None:
    call_command("migrate", "--run-syncdb", verbosity=0)
    _say({"cookies": [_log_in(number) for number in range(USERS)]})
    for line in sys.stdin:
        _say(_publish(**json.loads(line)))


if __name__ == "__main__":
    main()
