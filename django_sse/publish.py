"""The write side: from ``send_event`` to a committed, numbered row and a ring at the doorbell."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.core.serializers.json import DjangoJSONEncoder
from django.db import Error as DatabaseFailure
from django.db import connections, transaction

from django_sse import log, wire
from django_sse.brokers import get_broker
from django_sse.channels import check_channel
from django_sse.conf import settings
from django_sse.control import CONTROL
from django_sse.exceptions import InvalidEvent, InvalidField
from django_sse.models import Event
from django_sse.sequencer import joins, number, rounds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.backends.base.base import BaseDatabaseWrapper

__all__ = ["asend_event", "asend_events", "send_event", "send_events"]

logger = logging.getLogger(__name__)

_NO_DATA: Final[Any] = object()
_TYPE_LENGTH: Final = 100
_RESERVED: Final = (
    "error",
    "open",
)  # EventSource fires these itself: a page could not tell ours from its own
_KEY: Final = re.compile(r"[!-~]{1,200}")


def send_event(
    channel: str,
    event_type: str | None = None,
    data: Any = _NO_DATA,
    *,
    key: str | None = None,
    store: bool = True,
    text: str | None = None,
) -> Event | None:
    """Publish one event: every open browser that listens to ``channel`` is told once the transaction commits.

    ``channel``: 1 to 100 of ``A-Z a-z 0-9 . _ ~ -``.
    ``event_type``: the name the browser listens for; ``None`` or ``"message"`` is what ``onmessage`` receives.
    ``data``: any JSON value (``DjangoJSONEncoder``). ``text``: given instead of data, sent as it is.
    ``key``: 1 to 200 visible ASCII characters; a second event with the channel's same key is not published.
    ``store=False``: ephemeral: no row, no id, no replay; told to those who are connected.

    Returns the ``Event``; ``None`` for an ephemeral one. Its ``position`` is set if it has been given by now: never in
    a transaction, and without one unless another publisher is just giving positions, to this event too.
    Raises ``InvalidEvent`` or ``InvalidChannel`` (both ``ValueError``) for what cannot be published, and whatever the
    database raises for the insert. The broker never makes it raise or wait.
    """
    item = {
        "channel": channel,
        "event_type": event_type,
        "data": data,
        "key": key,
        "store": store,
        "text": text,
    }
    return send_events([item])[0]


def send_events(items: Iterable[Mapping[str, Any] | tuple[Any, ...]]) -> list[Event | None]:
    """Publish many events in their order; return what ``send_event`` would for each.

    One INSERT takes all that follow each other with a ``key``, or without.
    An item is a mapping of ``send_event``'s arguments, or a tuple ``(channel, event_type, data)``. All are validated
    before the first is published.
    """
    prepared = [_prepare(**item) if isinstance(item, Mapping) else _prepare(*item) for item in items]
    broker = get_broker()
    for event, store in prepared:
        if not store:
            broker.validate(event.channel, event.type, event.data)
    stored = [event for event, store in prepared if store]
    if stored:
        _refuse_running_loop()
    connection = connections[settings.DATABASE]
    rows = iter(_store(stored, connection) if stored else ())
    results = [next(rows) if store else None for _, store in prepared]
    for event, store in prepared:
        if not store:
            tell = partial(broker.send, event.channel, event.type, event.data)
            # In a transaction an ephemeral event waits for the commit too: a rollback takes both kinds back.
            connection.on_commit(tell) if connection.in_atomic_block else tell()
    return results


def send_notice(data: str) -> None:
    """Publish a row of the control channel, which ``send_event`` refuses; in the caller's transaction, as that does."""
    _refuse_running_loop()
    _store([Event(channel=CONTROL, type="sse.close", data=data)], connections[settings.DATABASE])


async def asend_event(
    channel: str,
    event_type: str | None = None,
    data: Any = _NO_DATA,
    *,
    key: str | None = None,
    store: bool = True,
    text: str | None = None,
) -> Event | None:
    """``send_event`` for async code."""
    return await sync_to_async(send_event)(channel, event_type, data, key=key, store=store, text=text)


async def asend_events(items: Iterable[Mapping[str, Any] | tuple[Any, ...]]) -> list[Event | None]:
    """``send_events`` for async code."""
    return await sync_to_async(send_events)(items)


def _prepare(
    channel: str,
    event_type: str | None = None,
    data: Any = _NO_DATA,
    *,
    key: str | None = None,
    store: bool = True,
    text: str | None = None,
) -> tuple[Event, bool]:
    """Validate one event at the door, so that nothing stored can fail to be delivered."""
    event = Event(
        channel=check_channel(channel),
        type=_check_type(event_type),
        data=_check_data(data, text),
        key=_check_key(key, store),
    )
    return event, store


def _check_type(event_type: str | None) -> str:
    if event_type is None:
        return wire.MESSAGE
    if not isinstance(event_type, str) or not 1 <= len(event_type) <= _TYPE_LENGTH:
        raise InvalidEvent(
            f"event_type {event_type!r:.120} is not a text of 1 to {_TYPE_LENGTH} characters, nor None for 'message'."
        )
    if event_type in _RESERVED or event_type.startswith("sse."):
        raise InvalidEvent(
            f"event_type {event_type!r} is reserved: EventSource fires 'error' and 'open' itself, and 'sse.*' are "
            "django_sse's own. Choose another name."
        )
    try:
        wire.encode("", event=event_type)  # CR, LF, NUL and what UTF-8 cannot carry
    except InvalidField as error:
        raise InvalidEvent(f"event_type {event_type!r:.120} cannot be sent: {error}") from error
    return event_type


def _check_data(data: Any, text: str | None) -> str:
    if (data is _NO_DATA) == (text is None):
        raise InvalidEvent("Give either data (a JSON value) or text=, not both and not neither.")
    if text is not None:
        if not isinstance(text, str):
            raise InvalidEvent(f"text is a {type(text).__name__}, not a str. JSON values go into data.")
        encoded = text
    else:
        try:
            encoded = json.dumps(
                data, cls=DjangoJSONEncoder, ensure_ascii=False, allow_nan=False, separators=(",", ":")
            )
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidEvent(f"data is not a JSON value: {error}") from error
    try:
        size = len(encoded.encode())
    except UnicodeEncodeError as error:
        raise InvalidEvent(
            f"A lone surrogate at character {error.start} of the data cannot be sent as UTF-8. Replace it, for "
            'example with text.encode("utf-8", "replace").decode().'
        ) from error
    if size > settings.MAX_EVENT_BYTES:
        raise InvalidEvent(
            f"The data has {size} bytes, more than DJANGO_SSE['MAX_EVENT_BYTES'] = {settings.MAX_EVENT_BYTES}. Send "
            "an id or a URL for the browser to fetch, or raise the limit."
        )
    return encoded


def _check_key(key: str | None, store: bool) -> str | None:
    if key is None:
        return None
    if not store:
        raise InvalidEvent("key= needs a stored event: without a row nothing remembers the key. Leave out store=False.")
    if not (isinstance(key, str) and _KEY.fullmatch(key)):
        raise InvalidEvent(f"key {key!r:.220} is not 1 to 200 visible ASCII characters without spaces.")
    return key


def _refuse_running_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise SynchronousOnlyOperation("send_event() writes to the database, in async code: await asend_event() instead.")


class _Batch:
    """The events of one transaction: the first on_commit hook numbers them all, its followers have nothing to do."""

    def __init__(self) -> None:
        self.done = False

    def deliver(self) -> None:
        if not self.done:
            self.done = True
            _deliver()


def _deliver() -> None:
    """Have what is committed numbered, by us or by whoever is at it, and ring."""
    try:
        for numbered in rounds():
            get_broker().notify(numbered.head)
    except DatabaseFailure:
        # It is committed, so it will be numbered by the next publisher or by any hub's poll.
        logger.exception("Committed events could not be numbered yet; they are delivered late")


_batches: WeakKeyDictionary[BaseDatabaseWrapper, _Batch] = WeakKeyDictionary()


def _store(events: list[Event], connection: BaseDatabaseWrapper) -> list[Event]:
    if settings.DEDICATED_SEQUENCER or not (connection.in_atomic_block or connection.get_autocommit()):
        # Numbered by somebody else: by ``sse_sequencer``, or, as transactions by hand (set_autocommit(False)) have no
        # on_commit, by a hub's poll.
        return log.append(events)
    if connection.in_atomic_block:
        rows = log.append(events)
        batch = _batches.get(connection)
        if batch is None or batch.done:
            batch = _batches[connection] = _Batch()
        connection.on_commit(batch.deliver)
        return rows
    with transaction.atomic(using=settings.DATABASE):
        rows = log.append(events)
        numbered = number(ending=True) if joins(connection) else None
    if numbered:
        get_broker().notify(numbered.head)
    if numbered is None or log.unnumbered():
        _deliver()
    if numbered and numbered.events == len(rows) and all(row.key is None for row in rows):
        positions: Iterable[int | None] = range(numbered.head - len(rows) + 1, numbered.head + 1)  # nobody else's
    else:
        positions = log.positions(rows)
    for row, position in zip(rows, positions, strict=True):
        row.position = position
    return rows
