"""The native EventSource of a page, as text: what ``{% event_source %}`` puts into the template. Plain functions."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe

from django_sse.wire import MESSAGE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["event_source", "parse_handlers"]

_HANDLER: Final = re.compile(r"[A-Za-z_$][\w$]*(\.[A-Za-z_$][\w$]*)*", re.ASCII)
_TAKEN: Final = {"data", "event", "source", "RobustEventSource"}
_ESCAPES: Final = {ord(c): f"\\u{ord(c):04x}" for c in "<>\u2028\u2029"}


def parse_handlers(events: str | None, handler: str | None) -> dict[str, str]:
    """Return the handler of each event type.

    ``events``: types between spaces, each perhaps with a handler of its own: ``"notification metric:chart.add"``.
    ``handler``: the JavaScript function for the rest. Raises ``ValueError`` for a type without a handler and for
    what is not the name of a function.
    """
    handlers: dict[str, str] = {}
    for word in (events or MESSAGE).split():
        event_type, _, own = word.partition(":")
        name = own or handler
        if not name:
            raise ValueError(f'The event type "{event_type}" has no handler: give handler="f" or "{event_type}:f".')
        if (first := name.split(".")[0]) in _TAKEN:
            raise ValueError(f"{name!r} would mean the script's own {first!r}: give the function another name.")
        if not _HANDLER.fullmatch(name):
            raise ValueError(f'{name!r} is not the name of a JavaScript function, such as "updateUI" or "bell.add".')
        handlers[event_type] = name
    return handlers


def event_source(
    url: str,
    query: Sequence[tuple[str, str | int]],
    handlers: Mapping[str, str],
    *,
    text: bool = False,
    nonce: str = "",
    client: str = "",
) -> SafeString:
    """Return the ``<script>`` that opens one EventSource at ``url`` and hands each event's data to its handler.

    ``text``: hand the data over as it is, for events sent with ``text=``; otherwise as parsed JSON.
    ``client``: the address of ``client.js``, to listen with that instead.
    A module: its ``source`` is its own, and it runs when the whole page, with its handlers, is there.
    """
    parameters = urlencode(query)
    address = _literal(f"{url}{'&' if '?' in url else '?'}{parameters}" if parameters else url)
    if client:
        opening = [f"import {{ RobustEventSource }} from {_literal(client)};"]
        opening.append(f"const source = new RobustEventSource({address});")
        ending = []  # it tells its state itself
    else:
        opening = [f"const source = new EventSource({address});"]
        ending = ['source.onerror = () => { console.log("Reconnecting..."); };']
    lines = []
    for event_type, handler in handlers.items():
        call = f"{handler}(event.data);" if text else f"const data = JSON.parse(event.data); {handler}(data);"
        if event_type == MESSAGE:
            lines.append(f"source.onmessage = (event) => {{ {call} }};")
        else:
            lines.append(f"source.addEventListener({_literal(event_type)}, (event) => {{ {call} }});")
    # Every argument was made a literal or has matched a pattern.
    script = mark_safe("\n".join([*opening, *lines, *ending]))
    attribute = format_html(' nonce="{}"', nonce) if nonce else ""
    return format_html('<script type="module"{}>\n{}\n</script>', attribute, script)


def _literal(text: str) -> str:
    """Return ``text`` as a JavaScript string that also cannot end the script element around it."""
    return json.dumps(text).translate(_ESCAPES)
