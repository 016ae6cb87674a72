"""How the items of a generated stream are put on the wire: our own events, and the formats that clients already speak.

An encoder serves one response. ``EventEncoder``, the default of ``EventStreamResponse``, is for the browser's native
``EventSource`` and takes items of every kind. The others take text, and write the formats of other services, for
clients that were made for those: ``OpenAIEncoder``, ``AnthropicEncoder``, ``UIMessageEncoder`` (AI SDK) and
``TextEncoder``.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from django.core.serializers.json import DjangoJSONEncoder

from django_sse import wire
from django_sse.models import Event
from django_sse.surrogates import REPLACEMENT, split
from django_sse.wire import ServerSentEvent

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DONE",
    "FAILED",
    "AnthropicEncoder",
    "EventEncoder",
    "OpenAIEncoder",
    "TextEncoder",
    "UIMessageEncoder",
    "encode_item",
]

DONE: Final = "done"
"""The type of the last event of a generated stream: the page closes its EventSource then."""
FAILED: Final = "sse.error"
"""The type of the event that says that the source failed."""
_SORRY: Final = "The generation failed."
"""All that a client is told: the reason is in the server's log."""


def encode_item(item: object) -> bytes:
    """Return one item of a source as a frame.

    bytes are frames already; an ``Event`` or ``ServerSentEvent`` is itself; text is the data of an unnamed event, and
    any other JSON value is encoded to it. Raises ``ValueError`` or ``TypeError`` for what cannot be sent.
    """
    if isinstance(item, bytes):
        return item
    if isinstance(item, Event | ServerSentEvent):
        return item.encode()
    if not isinstance(item, str):
        item = json.dumps(item, cls=DjangoJSONEncoder, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return wire.encode(item)


class EventEncoder:
    """Events as ``encode_item`` makes them, then ``done``; for the browser's own ``EventSource``.

    Half of a character at the end of a text waits for the next text.

    The first block is an id alone: a browser whose connection breaks comes back with ``Last-Event-ID: 0``, or with the
    id of the last item that had one, so that a view can tell a return from a first call.
    """

    headers: Mapping[str, str] = {}
    """What the response has beside, or instead of, the headers of every event stream."""
    _half = ""

    def opening(self) -> bytes:
        """What is sent at once, before the first item."""
        return wire.mark(0)

    def item(self, item: Any) -> bytes:
        """The bytes of one item; none: it waits. Raises ``ValueError`` or ``TypeError`` for one that cannot be sent."""
        if isinstance(item, str):
            item, self._half = split(self._half + item)
            if self._half and not item:
                return b""
        return encode_item(item)

    def _rest(self) -> str:
        """What stands for a half whose other half never came."""
        half, self._half = self._half, ""
        return half and REPLACEMENT

    def heartbeat(self) -> bytes:
        """What is sent while the source thinks: it must change nothing for the client."""
        return wire.comment()

    def done(self) -> bytes:
        """What is sent when the source has ended."""
        return self._last() + wire.encode('{"reason":"end"}', event=DONE)

    def failed(self) -> bytes | None:
        """What is sent when the source has raised; ``None``: the format has no word for it, cut the connection."""
        ends = (wire.encode('{"reason":"failed"}', event=kind) for kind in (FAILED, DONE))
        return b"".join([self._last(), *ends])

    def _last(self) -> bytes:
        return wire.encode(rest) if (rest := self._rest()) else b""


class TextEncoder(EventEncoder):
    """The text alone, as ``text/plain``: for ``fetch``, curl, and the AI SDK's text protocol.

    It has no heartbeat, and no word for an end that was none: a source that fails cuts the connection.
    """

    headers: Mapping[str, str] = {"Content-Type": "text/plain; charset=utf-8"}

    def opening(self) -> bytes:
        return b""

    def item(self, item: str) -> bytes:
        text, self._half = split(self._half + item)
        return text.encode()

    def heartbeat(self) -> bytes:
        return b""

    def done(self) -> bytes:
        return self._rest().encode()

    def failed(self) -> bytes | None:
        return None


class OpenAIEncoder(EventEncoder):
    """``chat.completion.chunk`` objects and ``[DONE]``, as OpenAI's chat completions stream them."""

    def __init__(self, *, model: str = "", id: str = "") -> None:
        self._head: dict[str, Any] = {
            "id": id or f"chatcmpl-{uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": model,
        }

    def _chunk(self, delta: Mapping[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return _json({**self._head, "choices": [choice]})

    def opening(self) -> bytes:
        return self._chunk({"role": "assistant", "content": ""})

    def item(self, item: str) -> bytes:
        return self._chunk({"content": item})

    def done(self) -> bytes:
        return self._chunk({}, "stop") + wire.encode("[DONE]")

    def failed(self) -> bytes | None:
        return _json({"error": {"message": _SORRY, "type": "server_error", "param": None, "code": None}})


class AnthropicEncoder(EventEncoder):
    """Typed events from ``message_start`` to ``message_stop``, as Anthropic's messages stream them.

    The numbers of tokens in ``usage`` are 0: nobody counts them here.
    """

    def __init__(self, *, model: str = "", id: str = "") -> None:
        self._message: dict[str, Any] = {
            "id": id or f"msg_{uuid4().hex}",
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }

    def opening(self) -> bytes:
        block = {"type": "text", "text": ""}
        return _typed("message_start", message=self._message) + _typed(
            "content_block_start", index=0, content_block=block
        )

    def item(self, item: str) -> bytes:
        return _typed("content_block_delta", index=0, delta={"type": "text_delta", "text": item})

    def heartbeat(self) -> bytes:
        return _typed("ping")

    def done(self) -> bytes:
        delta = {"stop_reason": "end_turn", "stop_sequence": None}
        return (
            _typed("content_block_stop", index=0)
            + _typed("message_delta", delta=delta, usage={"output_tokens": 0})
            + _typed("message_stop")
        )

    def failed(self) -> bytes | None:
        return _typed("error", error={"type": "api_error", "message": _SORRY})


class UIMessageEncoder(EventEncoder):
    """The AI SDK's UI message stream, version 1: one text part, for ``useChat`` and ``useCompletion``."""

    headers: Mapping[str, str] = {"x-vercel-ai-ui-message-stream": "v1"}

    def __init__(self, *, id: str = "") -> None:
        self._id = id or f"msg_{uuid4().hex}"

    def opening(self) -> bytes:
        return (
            _json({"type": "start", "messageId": self._id})
            + _json({"type": "start-step"})
            + _json({"type": "text-start", "id": "text-1"})
        )

    def item(self, item: str) -> bytes:
        return _json({"type": "text-delta", "id": "text-1", "delta": item})

    def done(self) -> bytes:
        ends = ({"type": "text-end", "id": "text-1"}, {"type": "finish-step"}, {"type": "finish"})
        return b"".join(map(_json, ends)) + wire.encode("[DONE]")

    def failed(self) -> bytes | None:
        return _json({"type": "error", "errorText": _SORRY}) + wire.encode("[DONE]")


def _json(value: Mapping[str, Any], event: str = wire.MESSAGE) -> bytes:
    # Escaped: half of a surrogate pair, which some models stream, can be sent so and is joined by the client.
    return wire.encode(json.dumps(value, separators=(",", ":")), event=event)


def _typed(event_type: str, **fields: Any) -> bytes:
    return _json({"type": event_type, **fields}, event=event_type)
