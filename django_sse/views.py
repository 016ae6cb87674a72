"""Event streams over HTTP: what is decided before the first byte."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from copy import copy
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.core.exceptions import PermissionDenied
from django.db import Error as DatabaseFailure
from django.db import InterfaceError, OperationalError, connections, transaction
from django.http import Http404, HttpResponse, HttpResponseBadRequest, HttpResponseNotAllowed
from django.utils.decorators import classonlymethod, method_decorator
from django.utils.module_loading import import_string
from django.views import View

from django_sse import allowance, origins, tickets
from django_sse.access import is_allowed
from django_sse.address import client_address
from django_sse.admission import PLAIN, admit, forbidden
from django_sse.channels import check_channel
from django_sse.conf import settings
from django_sse.cursor import parse
from django_sse.descriptors import needs_descriptors
from django_sse.detach import KEY
from django_sse.exceptions import InvalidChannel
from django_sse.grant import client_name, get_user
from django_sse.polling import due, wants_json
from django_sse.responses import FrameResponse, encode_item, event_body
from django_sse.stream import Stream, long_retry, retry
from django_sse.unspoken import Secret

if TYPE_CHECKING:
    from django.http import HttpRequest
    from django.http.response import HttpResponseBase

__all__ = ["EventStreamView", "event_stream"]

logger = logging.getLogger(__name__)

Initial = Callable[["HttpRequest"], Iterable[object] | Awaitable[Iterable[object]]]

Decide = Callable[[], Awaitable[frozenset[str]]]
Ask = Callable[["HttpRequest"], Awaitable[bool]]
Allowed = Callable[["HttpRequest"], bool | Awaitable[bool]]


async def event_stream(
    request: HttpRequest,
    channels: Iterable[str],
    *,
    last: int = 0,
    initial: Initial | None = None,
    allowed: Allowed | None = None,
) -> HttpResponseBase:
    """Return the stream of ``channels``, for a view that has decided that this request may read them.

    It starts after the ``Last-Event-ID`` header, or on the first connection after the ``since`` parameter, or live.
    ``last``: the first connection also gets the last so many events. ``initial(request)``, sync or async: the events
    (see ``responses.encode_item``) that show the state to a client whose cursor tells nothing of it, on the first
    connection without ``since`` and after a reset. ``allowed(request)``, sync or async: the decision itself, asked
    before the first byte and every ``RECHECK`` seconds while the stream is open; only ``True`` allows.

    Other methods than ``GET`` and ``HEAD`` are answered by 405, and a CORS preflight as one. Raises ``InvalidChannel``
    for a name that cannot be one. Under WSGI the body holds what is due and ends, and the
    browser polls. A client that accepts JSON and no event stream gets the same as JSON (``polling.Due.json``).
    """
    names = frozenset(map(check_channel, channels))
    if not origins.is_allowed(request):
        return origins.mark(request, forbidden())
    if request.method not in ("GET", "HEAD"):
        return origins.mark(request, origins.preflight(request) or HttpResponseNotAllowed(["GET", "HEAD"]))
    ask = partial(_ask, allowed) if allowed else None

    async def decide() -> frozenset[str]:
        return names if ask is None or await ask(request) else frozenset()

    return origins.mark(request, await _open(request, decide, lambda names: ask, last=last, initial=initial))


async def _open(
    request: HttpRequest,
    decide: Decide,
    again: Callable[[frozenset[str]], Ask | None],
    *,
    last: int,
    initial: Initial | None,
    ticket: str | None = None,
) -> HttpResponseBase:
    """Answer ``request``: with what ``decide()`` allows, if it allows anything. ``again(names)``: what asks again for
    those, while the stream is open."""
    resumed = parse(request.headers.get("Last-Event-ID"))
    cursor = resumed if resumed is not None else parse(request.GET.get("since"))
    last = last if resumed is None else 0
    stays = hasattr(request, "scope") and request.method != "HEAD" and not wants_json(request)
    try:
        with needs_descriptors():
            admitted = await admit(request, decide, stays=stays, ticket=ticket)
    except (OperationalError, InterfaceError) as error:  # nobody could say yes or no
        return _come_back(request, error)
    if isinstance(admitted, HttpResponse):
        return admitted
    if request.method == "HEAD":
        return event_body(b"")
    try:
        if stays:
            stream = await Stream.open(admitted.names, cursor, last=last)
            start = stream.start
        else:
            client = await _client(request)
            if allowance.replay.is_spent(client):
                return _come_later(request)
            owed = await sync_to_async(due)(admitted.names, cursor, last=last)
            allowance.replay.spend(client, len(owed.events), least=0)  # a poll that finds nothing is an ordinary one
            start = owed.start
    except DatabaseFailure as error:
        return _come_back(request, error)
    audible = request.GET.get("heartbeat") == "event"
    snapshot = b""
    if initial and start.needs_snapshot:
        snapshot = b"".join(map(encode_item, await _call(initial, request)))
    if not stays:
        return owed.answer(request, snapshot, event_body, audible=audible)
    stream.snapshot, stream.audible, stream.grant = snapshot, audible, admitted.grant
    if stream.grant:
        stream.grant.ask = again(admitted.names)
    return FrameResponse(stream, slot=request.scope.get(KEY))  # type: ignore[attr-defined]


async def _ask(allowed: Allowed, request: HttpRequest) -> bool:
    return await _call(allowed, request) is True


@method_decorator(login_not_required, name="dispatch")  # a redirect to a login page would end the EventSource
class EventStreamView(View):
    """A stream of channels that the developer fixes or the client asks for.

    ``as_view(channels=[...])``, or a subclass with ``get_channels``: the developer's word is the permission.
    Neither: the client asks with ``?channel=a&channel=b``, and ``DJANGO_SSE["AUTHORIZE"]`` decides, all or nothing.

    Answers 403 where reading is refused, 400 where the request makes no sense, and never redirects. Behind Django's
    ``LoginRequiredMiddleware`` it refuses anonymous users itself.
    """

    http_method_names = ["get", "head", "options"]
    channels: Iterable[str] | None = None
    last: int = 0
    """Events that the first connection also gets; the client's ``?last=`` may ask for up to ``RING_SIZE``."""

    @classonlymethod
    def as_view(self, **initkwargs: Any) -> Callable[..., Any]:
        view = super().as_view(**initkwargs)
        for alias in connections:  # under ATOMIC_REQUESTS Django refuses async views, and a stream wants no transaction
            transaction.non_atomic_requests(alias)(view)
        return view

    def get_channels(self, request: HttpRequest) -> Iterable[str] | Awaitable[Iterable[str] | None] | None:
        """Return the channels that this request may read, sync or async; ``None``: ask the client and the authoriser.

        None at all (``[]``) is a refusal.
        """
        return self.channels

    def get_initial(self, request: HttpRequest) -> Iterable[object] | Awaitable[Iterable[object]]:
        """Return the events that show the current state, sync or async. See ``event_stream``."""
        return ()

    async def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        if (request.method or "").lower() in self.http_method_names and not origins.is_allowed(request):
            return origins.mark(request, forbidden())
        response = origins.preflight(request) or await cast("Any", super().dispatch(request, *args, **kwargs))
        return origins.mark(request, response)

    async def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            last = _parse_last(request.GET.get("last"), self.last)
            if self._is_asked():
                _parse_channels(request.GET.getlist("channel"))  # before anybody is asked
            return await _open(
                request,
                partial(self._decide, request),
                self._again,
                last=last,
                initial=self.get_initial if type(self).get_initial is not EventStreamView.get_initial else None,
                ticket=Secret.of(tickets.presented(request)),
            )
        except (InvalidChannel, _Senseless) as error:  # any other ValueError is the project's own, and its words too
            return HttpResponseBadRequest(f"{error}\n", content_type=PLAIN)

    head = get

    def _is_asked(self) -> bool:
        """Whether the client names the channels, whatever the request."""
        return self.channels is None and type(self).get_channels is EventStreamView.get_channels

    async def _decide(self, request: HttpRequest) -> frozenset[str]:
        """Return the channels that ``request`` may read: none is a refusal."""
        if self._is_asked():
            return await _decide_asked(request)
        if not await _may_enter(request):
            return frozenset()
        channels = await _call(self.get_channels, request)
        return await _decide_asked(request) if channels is None else frozenset(map(check_channel, channels))

    def _again(self, names: frozenset[str]) -> Ask:
        """Return what asks again for ``names``, and keeps nothing of this request but the URL's arguments."""
        if self._is_asked():
            return _still_asked  # the same for all: each stream has it for hours
        kept = copy(self)
        del kept.request

        async def decide(request: HttpRequest) -> frozenset[str]:
            view = copy(kept)
            view.setup(request, *kept.args, **kept.kwargs)
            return await view._decide(request)

        return partial(_still, decide, names)


class _Senseless(ValueError):
    """The request makes no sense; the words are for its client."""


async def _may_enter(request: HttpRequest) -> bool:
    return not _login_is_required() or (await get_user(request)).is_authenticated


async def _decide_asked(request: HttpRequest) -> frozenset[str]:
    """Return the channels that the client asks for, if the authoriser allows them."""
    names = _parse_channels(request.GET.getlist("channel"))
    return frozenset(names) if await _may_enter(request) and await is_allowed(request, names) else frozenset()


async def _still(
    decide: Callable[[HttpRequest], Awaitable[frozenset[str]]], names: frozenset[str], request: HttpRequest
) -> bool:
    """Tell whether ``decide`` still allows all of ``names``."""
    try:
        decided = await decide(request)
    except (PermissionDenied, Http404, InvalidChannel):
        return False
    return bool(decided) and names <= decided


_still_asked = partial(_still, _decide_asked, frozenset())
"""All or nothing, by itself."""


def _come_back(request: HttpRequest, error: DatabaseFailure) -> HttpResponseBase:
    """An error status would end the EventSource for good (9.2.3); after this it comes back."""
    logger.warning("A stream could not be opened, the client will ask again: %r", error)
    return HttpResponse(status=503, headers={"Retry-After": 5}) if wants_json(request) else event_body(retry())


def _come_later(request: HttpRequest) -> HttpResponseBase:
    """For a client that has read its share of the log."""
    return HttpResponse(status=429, headers={"Retry-After": 60}) if wants_json(request) else event_body(long_retry())


async def _client(request: HttpRequest) -> str:
    """Return whose replay this is, where that is counted at all: it may be a query."""
    if settings.MAX_REPLAY is None:
        return ""
    user = await get_user(request)
    return client_name(str(user.pk) if user.is_authenticated else None, client_address(request))


async def _call(function: Callable[..., Any], request: HttpRequest) -> Any:
    """Call what a developer wrote, sync (it may query the database) or async."""
    answer = function(request) if iscoroutinefunction(function) else await sync_to_async(function)(request)
    return await answer if isawaitable(answer) else answer


def _parse_channels(names: list[str]) -> list[str]:
    if not names:
        raise _Senseless("Name the channels: ?channel=a&channel=b")
    if len(names) > settings.MAX_CHANNELS:
        raise _Senseless(f"{len(names)} channels are more than the {settings.MAX_CHANNELS} of one stream.")
    return list(dict.fromkeys(map(check_channel, names)))


def _parse_last(text: str | None, default: int) -> int:
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > settings.RING_SIZE:
        raise _Senseless(f"last must be a whole number from 0 to {settings.RING_SIZE}.")
    return int(text)


def _login_is_required() -> bool:
    middleware = (import_string(path) for path in django_settings.MIDDLEWARE)
    return any(isinstance(item, type) and issubclass(item, LoginRequiredMiddleware) for item in middleware)
