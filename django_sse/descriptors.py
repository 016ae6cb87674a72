"""A process that has no file descriptors left cannot ask its database. Then nobody has said no."""

from __future__ import annotations

from contextlib import contextmanager
from errno import EMFILE, ENFILE
from typing import TYPE_CHECKING

from django.db import OperationalError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["needs_descriptors"]


@contextmanager
def needs_descriptors() -> Iterator[None]:
    """Raise ``OperationalError`` where a descriptor was needed and there was none; also a decorator.

    Drivers raise a bare ``OSError`` then (psycopg for its ``epoll``), which Django does not translate. Taken for an
    answer it would end streams for good: by 403, or because who was asked again seemed to say no.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (EMFILE, ENFILE):
            raise
        raise OperationalError("The process has no file descriptors left.") from error
