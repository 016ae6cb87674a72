"""Who may read: rules by the pattern of the channel, and how the configured authoriser is asked."""

from __future__ import annotations

import logging
import re
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError
from django.db.models import QuerySet
from django.utils.module_loading import import_string

from django_sse.channels import PUBLIC, is_token_channel, user_channel
from django_sse.conf import settings
from django_sse.descriptors import needs_descriptors
from django_sse.exceptions import InvalidChannel
from django_sse.grant import get_user
from django_sse.unspoken import Unspoken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from django.http import HttpRequest

    Rule = bool | Callable[..., object]

__all__ = ["Rules", "authenticated", "authorize", "get_authorizer", "is_allowed", "own", "permission", "staff"]

logger = logging.getLogger(__name__)

_PLACE: Final = re.compile(r"<(?:(?P<converter>\w+):)?(?P<name>[a-z_]\w*)>")
_CONVERTERS: Final[dict[str, tuple[str, Callable[[str], object]]]] = {
    "str": (r"[A-Za-z0-9_~-]+", str),
    "int": (r"0|[1-9][0-9]{0,18}", int),  # one spelling for each: order.07 is nobody's
    "uuid": (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", UUID),
}


async def authorize(request: HttpRequest, channel: str) -> bool:
    """The rules of a project that configured none: ``public.*`` is everyone's; ``user.<pk>`` and
    ``tokens.<pk>.<name>`` are that user's alone."""
    return channel.startswith(PUBLIC) or await own(request, channel)


async def own(request: HttpRequest, channel: str, **kwargs: object) -> bool:
    """A rule: ``user.<pk>`` and ``tokens.<pk>.<name>`` are that user's, and nobody else's."""
    user = await get_user(request)
    try:
        return user.is_authenticated and (is_token_channel(channel, user) or channel == user_channel(user))
    except InvalidChannel:  # keys with characters that no channel has
        return False


async def authenticated(request: HttpRequest, channel: str, **kwargs: object) -> bool:
    """A rule: whoever is logged in."""
    return (await get_user(request)).is_authenticated is True


async def staff(request: HttpRequest, channel: str, **kwargs: object) -> bool:
    """A rule: whoever may enter the admin."""
    user = await get_user(request)
    return user.is_active is True and getattr(user, "is_staff", False) is True


def permission(name: str) -> Rule:
    """Return a rule: whoever has the permission ``name``, such as ``"shop.view_order"``."""

    async def rule(request: HttpRequest, channel: str, **kwargs: object) -> bool:
        user = await get_user(request)
        return await sync_to_async(user.has_perm)(name) is True

    return rule


class Rules:
    """An authoriser made of rules, the first whose pattern fits decides; a channel that none fits is nobody's.

    ::

        rules = Rules({
            "public.*": True,
            "user.<pk>": own,
            "order.<int:pk>": lambda request, channel, pk: Order.objects.filter(pk=pk, customer=request.user),
            "staff.*": staff,
        })

    In a pattern ``*`` at the end is any rest; ``<name>`` is a piece without dots, ``<int:name>`` and ``<uuid:name>``
    such values in their one usual spelling. A rule is ``True``, or a function of the request, the channel and what the
    pattern names, sync or async, that returns ``True`` or a queryset: it allows if that has a row.

    ``keep``: names of attributes that a middleware puts on the request and the rules look at; an open stream keeps
    them, for the rules are asked again while it is open.
    Raises ``ImproperlyConfigured`` for a pattern that cannot be one.
    """

    def __init__(self, rules: Mapping[str, Rule], *, keep: Iterable[str] = ()) -> None:
        self.keep = tuple(keep)
        self._rules = [(*_compile(pattern), rule) for pattern, rule in rules.items()]

    async def __call__(self, request: HttpRequest, channel: str) -> bool:
        for pattern, converters, rule in self._rules:
            if match := pattern.fullmatch(channel):
                if isinstance(rule, bool):
                    return rule
                values = {name: converters[name](text) for name, text in match.groupdict().items()}
                return await _allows(rule, request, channel, values)
        return False


async def _allows(rule: Callable[..., object], request: HttpRequest, channel: str, values: dict[str, object]) -> bool:
    def ask() -> object:
        answer = rule(request, channel, **values)
        return answer.exists() if isinstance(answer, QuerySet) else answer

    answer = await rule(request, channel, **values) if iscoroutinefunction(rule) else await sync_to_async(ask)()
    if isawaitable(answer):
        answer = await answer
    return await answer.aexists() if isinstance(answer, QuerySet) else answer is True


def _compile(pattern: str) -> tuple[re.Pattern[str], dict[str, Callable[[str], object]]]:
    converters: dict[str, Callable[[str], object]] = {}
    expression, place = "", 0
    for match in _PLACE.finditer(pattern):
        expression += _literal(pattern, pattern[place : match.start()])
        try:
            accepted, converters[match["name"]] = _CONVERTERS[match["converter"] or "str"]
        except KeyError:
            known = ", ".join(_CONVERTERS)
            raise ImproperlyConfigured(f"{pattern!r}: {match[0]!r} has no such converter; there are {known}.") from None
        expression += f"(?P<{match['name']}>{accepted})"
        place = match.end()
    rest = pattern[place:]
    expression += _literal(pattern, rest.removesuffix("*"))
    return re.compile(f"{expression}.*" if rest.endswith("*") else expression), converters


def _literal(pattern: str, text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._~-]*", text):
        raise ImproperlyConfigured(f"{pattern!r} is no pattern: {text!r} holds what no channel name does.")
    return re.escape(text)


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
            with needs_descriptors():
                answer = await cast("Any", ask(request, channel))
                if isawaitable(answer):
                    answer = await answer
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            logger.error("The authoriser raised, so access was denied", exc_info=Unspoken(error))
            return False
        if answer is not True:
            return False
    return True
