"""Who may read: the built-in rules, and how the configured authoriser is asked."""

from __future__ import annotations

import logging
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from django.db import InterfaceError, OperationalError
from django.utils.module_loading import import_string

from django_sse.channels import PUBLIC, is_token_channel, user_channel
from django_sse.conf import settings
from django_sse.exceptions import InvalidChannel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from django.http import HttpRequest

__all__ = ["authorize", "get_authorizer", "is_allowed"]

logger = logging.getLogger(__name__)


async def authorize(request: HttpRequest, channel: str) -> bool:
    """The rules of a project that configured none: ``public.*`` is everyone's; ``user.<pk>`` and
    ``tokens.<pk>.<name>`` are that user's alone."""
    if channel.startswith(PUBLIC):
        return True
    if not hasattr(request, "auser"):
        return False
    user = await request.auser()
    try:
        return user.is_authenticated and (is_token_channel(channel, user) or channel == user_channel(user))
    except InvalidChannel:  # keys with characters that no channel has
        return False


def get_authorizer() -> Callable[[HttpRequest, str], object]:
    """Return the callable that ``DJANGO_SSE["AUTHORIZE"]`` is or names. Raises ``ImportError`` where it names none."""
    configured = settings.AUTHORIZE
    return cast("Any", import_string(configured)) if isinstance(configured, str) else configured


async def is_allowed(request: HttpRequest, channels: Iterable[str]) -> bool:
    """Ask the authoriser for each channel: all or nothing, and nothing but ``True`` is a yes.

    An authoriser that raises has said no; the log says why, without naming the channel. Raises ``OperationalError`` or
    ``InterfaceError`` where it could not ask its database: that is neither a yes nor a no for good.
    """
    authorizer = get_authorizer()
    # An instance whose __call__ is async is one too, and iscoroutinefunction looks at functions alone.
    is_async = iscoroutinefunction(authorizer) or iscoroutinefunction(getattr(authorizer, "__call__", None))  # noqa: B004
    ask = authorizer if is_async else sync_to_async(authorizer)
    for channel in channels:
        try:
            answer = await cast("Any", ask(request, channel))
            if isawaitable(answer):
                answer = await answer
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            logger.exception("The authoriser raised, so access was denied")
            return False
        if answer is not True:
            return False
    return True
