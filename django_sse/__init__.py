"""Turn ``send_event()`` into live browser notifications that never go missing.

The public names load on first use (PEP 562): ``django.setup()`` imports this package before models may be
imported, so a plain re-export would raise ``AppRegistryNotReady``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django_sse.log import aget_head, get_head
    from django_sse.publish import asend_event, asend_events, send_event, send_events
    from django_sse.revocation import aclose_streams, close_streams

__version__ = "0.1.0"
__all__ = [
    "aclose_streams",
    "aget_head",
    "asend_event",
    "asend_events",
    "close_streams",
    "get_head",
    "send_event",
    "send_events",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    home = {"get_head": "log", "close_streams": "revocation"}.get(name.removeprefix("a"), "publish")
    return getattr(import_module(f"django_sse.{home}"), name)
