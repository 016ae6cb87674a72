from __future__ import annotations

import importlib
import subprocess
import sys

import pytest

import django_sse

PUBLIC = {
    "django_sse": [
        "aclose_streams",
        "aget_head",
        "asend_event",
        "asend_events",
        "close_streams",
        "get_head",
        "send_event",
        "send_events",
    ],
    "django_sse.access": [
        "Rules",
        "authenticated",
        "authorize",
        "get_authorizer",
        "is_allowed",
        "own",
        "permission",
        "staff",
    ],
    "django_sse.asgi": ["get_asgi_application"],
    "django_sse.channels": [
        "PUBLIC",
        "TOKENS",
        "check_channel",
        "is_token_channel",
        "token_channel",
        "token_owner",
        "user_channel",
    ],
    "django_sse.consumers": ["AWAY", "ENDED", "EventConsumer"],
    "django_sse.encoders": [
        "AnthropicEncoder",
        "DONE",
        "EventEncoder",
        "FAILED",
        "OpenAIEncoder",
        "TextEncoder",
        "UIMessageEncoder",
        "encode_item",
    ],
    "django_sse.exceptions": ["InvalidChannel", "InvalidEvent", "InvalidField", "SSEError"],
    "django_sse.models": ["Event", "Head", "WireTextField"],
    "django_sse.parser": ["Parser", "ReceivedEvent"],
    "django_sse.responses": ["EventStreamResponse", "encode_item", "event_body"],
    "django_sse.signals": ["Broadcast", "broadcast", "stream_closed", "stream_opened"],
    "django_sse.tickets": ["AGE", "Ticket", "asign_ticket", "presented", "redeem", "sign_ticket"],
    "django_sse.testing": ["EventReader", "Parser", "ReceivedEvent", "capture_events", "listen"],
    "django_sse.tokens": [
        "TokenStream",
        "astop_tokens",
        "atokens_since",
        "stop_tokens",
        "stream_tokens",
        "token_stream",
        "tokens_since",
    ],
    "django_sse.upstream": ["Patience", "UpstreamError", "openai_tokens"],
    "django_sse.views": ["EventStreamView", "event_stream"],
    "django_sse.wire": [
        "MESSAGE",
        "ServerSentEvent",
        "close",
        "comment",
        "encode",
        "heartbeat",
        "mark",
        "reset",
        "retry",
    ],
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_names_exist_and_are_these(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == PUBLIC[name]
    assert all(hasattr(module, public) for public in module.__all__)


def test_a_wrong_name_says_what_is_offered() -> None:
    with pytest.raises(AttributeError, match="offers aclose_streams, aget_head, "):
        _ = django_sse.publish_event  # type: ignore[attr-defined]


def test_the_package_can_be_imported_before_django_is_set_up() -> None:
    subprocess.run([sys.executable, "-c", "import django_sse; django_sse.__version__"], check=True, timeout=60)
