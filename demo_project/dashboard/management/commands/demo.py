from __future__ import annotations

import asyncio
import errno
import io
import os
import socket
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import BaseCommand, CommandError, call_command

from demo_project.dashboard.sampler import Sampler
from demo_project.orders import samples

if TYPE_CHECKING:
    from argparse import ArgumentParser

__all__ = ["HOST", "LOGIN", "Command", "port_of_environment", "prepare", "refuse_taken"]

HOST: Final = "127.0.0.1"
LOGIN: Final = "admin"
"""Name and password, in one: it opens nothing but a site that only this machine can reach."""


class Command(BaseCommand):
    help = "Set up the demo and serve it on this machine: http://127.0.0.1:8000/"
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, help="default: the environment's PORT, else 8000")

    def handle(self, *_args: Any, **options: Any) -> None:
        port = options["port"] or port_of_environment()
        if not settings.DEBUG:
            raise CommandError("The demo has an administrator whose password is known: it runs with DEBUG only.")
        refuse_taken(port)
        self._introduce(port, prepare())
        Sampler().start()
        # Its own greeting would say it all a second time; its errors still go to stderr.
        call_command("runserver", f"{HOST}:{port}", use_reloader=False, stdout=io.StringIO())
        _end_tasks(import_module("daphne.server").twisted_loop)

    def _introduce(self, port: int, admin_is_new: bool) -> None:
        address = f"http://{HOST}:{port}/"
        login = f"{LOGIN}, password {LOGIN} (this machine only)" if admin_is_new else "as before"
        self.stdout.write(f"Demo   {address}\nAdmin  {address}admin/\nLogin  {login}\nStop   Ctrl-C\n")
        self.stdout.flush()


def _end_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what still runs, as ``asyncio.run`` does at its end.

    daphne cancels the requests, but not the tasks that Django made for an open stream, and Python 3.11 crashes when it
    finds those pending as it exits.
    """
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))


def port_of_environment() -> int:
    """Return ``PORT``, else 8000; raise ``CommandError`` for what is no port."""
    text = os.environ.get("PORT") or "8000"
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65536):
        raise CommandError(f"PORT={text} is not a port. Choose a number from 1 to 65535.")
    return int(text)


def prepare() -> bool:
    """Make the tables, an administrator and some orders; return whether the known login is valid."""
    call_command("migrate", verbosity=0, interactive=False)
    admin_is_new = _make_admin()
    samples.fill()
    return admin_is_new


def refuse_taken(port: int) -> None:
    """Raise ``CommandError`` where ``port`` is not to be had."""
    with socket.socket() as probe:
        # As the server itself does: a port whose last connections are still dying is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            why = "taken" if error.errno == errno.EADDRINUSE else f"not to be had ({error.strerror})"
            raise CommandError(
                f"Port {port} is {why}. Choose another: PORT={port + 1} python manage.py demo"
            ) from error


def _make_admin() -> bool:
    """Return whether the known login is valid: made now, or here from an earlier run."""
    users = get_user_model()._default_manager
    if not users.filter(is_superuser=True).exists():
        get_user_model().objects.create_superuser(LOGIN, password=LOGIN)
    admin = users.filter(username=LOGIN, is_superuser=True).first()
    return admin is not None and admin.check_password(LOGIN)
