"""Everything that django_sse raises on purpose.

SSEError
├── InvalidEvent        (also a ValueError)  what was given to send_event cannot be an event
├── InvalidChannel      (also a ValueError)  not a channel name
├── InvalidField        (also a ValueError)  cannot stand in a field of an event stream
└── UpstreamError       (in ``upstream``)    the service behind ``openai_tokens`` refused, fell silent or broke off
"""

from __future__ import annotations

__all__ = ["InvalidChannel", "InvalidEvent", "InvalidField", "SSEError"]


class SSEError(Exception):
    """The base of every error that django_sse raises on purpose."""


class InvalidEvent(SSEError, ValueError):
    """This cannot be published as an event."""


class InvalidChannel(SSEError, ValueError):
    """This is not a channel name."""


class InvalidField(SSEError, ValueError):
    """This cannot stand in a field of an event stream."""
