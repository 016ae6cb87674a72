"""The formats of others, read by their own clients."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from django_sse.encoders import AnthropicEncoder, EventEncoder, OpenAIEncoder, TextEncoder, UIMessageEncoder
from django_sse.parser import Parser, ReceivedEvent
from django_sse.source import Source
from tests.packages import NPM, need_packages
from tests.services import missing
from tests.upstream import Upstream, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKENS = ["Hel", "lo, \n", "wörld ", "\N{ROCKET}", "\n\n"]
TEXT = "".join(TOKENS)
ENCODERS = [EventEncoder, OpenAIEncoder, AnthropicEncoder, UIMessageEncoder]


def fail() -> Any:
    yield from TOKENS
    raise ValueError("secret")


def body(encoder: EventEncoder, tokens: Any = TOKENS) -> bytes:
    return b"".join(Source(tokens, encoder).frames())


def read(encoder: EventEncoder, tokens: Any = TOKENS) -> list[ReceivedEvent]:
    return Parser().feed(body(encoder, tokens))


@pytest.fixture
def service() -> Iterator[Upstream]:
    with upstream() as service:
        yield service


def answer(service: Upstream, encoder: EventEncoder, *, fails: bool = False) -> None:
    """Have ``service`` answer with what ``encoder`` makes, with a heartbeat in between."""
    end = encoder.failed() if fails else encoder.done()
    frames = [
        encoder.opening(),
        encoder.item(TOKENS[0]),
        encoder.heartbeat(),
        *map(encoder.item, TOKENS[1:]),
        end or b"",
    ]
    service.pieces = frames
    service.headers = {"Content-Type": "text/event-stream", **encoder.headers}


def client_of(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        missing(f"This test needs the client of a service: pip install {name}.")


def test_openais_client(service: Upstream) -> None:
    answer(service, OpenAIEncoder(model="m"))
    client = client_of("openai").OpenAI(api_key="none", base_url=service.url, max_retries=0)
    chunks = list(client.chat.completions.create(model="m", messages=[], stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == ["stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {(chunk.object, chunk.model) for chunk in chunks} == {("chat.completion.chunk", "m")}
    assert len({chunk.id for chunk in chunks}) == 1


def test_openais_client_hears_of_a_failure(service: Upstream) -> None:
    openai = client_of("openai")
    answer(service, OpenAIEncoder(), fails=True)
    client = openai.OpenAI(api_key="none", base_url=service.url, max_retries=0)
    with pytest.raises(openai.APIError, match="The generation failed"):
        list(client.chat.completions.create(model="m", messages=[], stream=True))


def ask_anthropic(service: Upstream) -> Any:
    client = client_of("anthropic").Anthropic(api_key="none", base_url=service.url, max_retries=0)
    return client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "?"}])


def test_anthropics_client(service: Upstream) -> None:
    answer(service, AnthropicEncoder(model="m"))
    with ask_anthropic(service) as stream:
        assert "".join(stream.text_stream) == TEXT
        message = stream.get_final_message()
    assert (message.stop_reason, message.role, message.model) == ("end_turn", "assistant", "m")
    assert [(block.type, block.text) for block in message.content] == [("text", TEXT)]


def test_anthropics_client_hears_of_a_failure(service: Upstream) -> None:
    answer(service, AnthropicEncoder(), fails=True)
    with (
        pytest.raises(client_of("anthropic").APIError, match="The generation failed"),
        ask_anthropic(service) as stream,
    ):
        list(stream.text_stream)


def ask_ai_sdk(service: Upstream) -> Any:
    need_packages()
    node = shutil.which("node") or missing("This test needs node to run the AI SDK.")
    asked = subprocess.run([node, "ui.mjs", service.url], cwd=NPM, stdout=subprocess.PIPE, timeout=60, check=True)
    return json.loads(asked.stdout)


def test_the_ai_sdks_client(service: Upstream) -> None:
    answer(service, UIMessageEncoder(id="msg-1"))
    assert ask_ai_sdk(service) == {
        "message": {
            "id": "msg-1",
            "role": "assistant",
            "parts": [{"type": "step-start"}, {"type": "text", "text": TEXT, "state": "done"}],
        },
        "errors": [],
    }


def test_the_ai_sdks_client_hears_of_a_failure(service: Upstream) -> None:
    answer(service, UIMessageEncoder(), fails=True)
    assert ask_ai_sdk(service)["errors"] == ["The generation failed."]


def test_openai() -> None:
    *chunks, last = read(OpenAIEncoder(model="m", id="chatcmpl-1"))
    assert last.data == "[DONE]"
    values = [json.loads(chunk.data) for chunk in chunks]
    assert [value["choices"][0]["delta"] for value in values] == [
        {"role": "assistant", "content": ""},
        *({"content": token} for token in TOKENS),
        {},
    ]
    assert {value["id"] for value in values} == {"chatcmpl-1"}


def test_anthropic() -> None:
    events = read(AnthropicEncoder())
    assert [event.type for event in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * len(TOKENS),
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(event.json()["type"] == event.type for event in events)


def test_ui_message() -> None:
    encoder = UIMessageEncoder(id="msg-1")
    *parts, last = read(encoder)
    assert last.data == "[DONE]"
    assert [part.json() for part in parts] == [
        {"type": "start", "messageId": "msg-1"},
        {"type": "start-step"},
        {"type": "text-start", "id": "text-1"},
        *({"type": "text-delta", "id": "text-1", "delta": token} for token in TOKENS),
        {"type": "text-end", "id": "text-1"},
        {"type": "finish-step"},
        {"type": "finish"},
    ]
    assert encoder.headers == {"x-vercel-ai-ui-message-stream": "v1"}


@pytest.mark.parametrize("make", ENCODERS)
def test_a_failure_is_said_without_its_reason(make: type[EventEncoder]) -> None:
    data = body(make(), fail())
    assert b"secret" not in data
    assert b"error" in data
    assert b"[DONE]" not in data or make is UIMessageEncoder


@pytest.mark.parametrize("make", [OpenAIEncoder, AnthropicEncoder, UIMessageEncoder])
def test_the_halves_of_a_character_are_joined_by_the_client(make: type[EventEncoder]) -> None:
    data = body(make(), ["\ud83d", "\ude80"])
    assert data.index(b"\\ud83d") < data.index(b"\\ude80")


HALVES = ["a", "\ud83d", "", "\ude80b\udc00", "\ud83d"]


def test_the_halves_of_a_character_are_joined_before_they_are_sent() -> None:
    assert body(TextEncoder(), HALVES) == "a\N{ROCKET}b\ufffd\ufffd".encode()
    assert [event.data for event in read(EventEncoder(), ["", *HALVES, {"n": 1}])] == [
        *["", "a", "\N{ROCKET}b\ufffd", '{"n":1}', "\ufffd", '{"reason":"end"}'],
    ]


def test_half_of_a_character_is_not_lost_in_a_failure() -> None:
    def halves() -> Iterator[str]:
        yield "\ud83d"
        raise ValueError("secret")

    assert [(event.type, event.data) for event in read(EventEncoder(), halves())] == [
        ("message", "\ufffd"),
        ("sse.error", '{"reason":"failed"}'),
        ("done", '{"reason":"failed"}'),
    ]


def test_text_is_text_and_a_failure_is_no_end() -> None:
    assert body(TextEncoder()) == TEXT.encode()
    assert TextEncoder.headers == {"Content-Type": "text/plain; charset=utf-8"}
    frames = Source(fail(), TextEncoder()).frames()
    with pytest.raises(ValueError, match="secret"):
        list(frames)
