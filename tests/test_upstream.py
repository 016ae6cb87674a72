"""The adapter against a service that speaks the format, on this machine."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from django_sse.encoders import OpenAIEncoder
from django_sse.upstream import Patience, UpstreamError, openai_tokens
from tests.server import wait_for
from tests.upstream import Upstream, upstream

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKENS = ["Hel", "lo, \r\n", "wörld ", "\N{ROCKET}", "\n\n"]


@pytest.fixture
def service() -> Iterator[Upstream]:
    with upstream() as service:
        yield service


def body(end: bytes = b"data: [DONE]\n\n") -> bytes:
    """As OpenAI sends it: comments, an empty choice, a role without text, usage at the end."""
    chunks: list[Any] = [
        {"choices": []},
        {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]},
        *({"choices": [{"index": 0, "delta": {"content": token}, "finish_reason": None}]} for token in TOKENS),
        {"choices": [{"index": 1, "delta": {"content": "another choice"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"total_tokens": 9}},
    ]
    frames = [b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in chunks]
    return b": processing\n\n" + b"".join(frames) + end


async def collect(service: Upstream, **options: Any) -> list[str]:
    options = {"base_url": f"{service.url}/v1", "model": "m", **options}
    return [token async for token in openai_tokens([{"role": "user", "content": "?"}], **options)]


async def test_the_tokens_and_what_was_asked(service: Upstream) -> None:
    service.pieces = [body()]
    assert await collect(service, api_key="secret", temperature=0.5) == TOKENS
    ((path, headers, asked),) = service.requests
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == "Bearer secret"
    assert asked == {
        "model": "m",
        "messages": [{"role": "user", "content": "?"}],
        "stream": True,
        "temperature": 0.5,
    }


async def test_without_a_key_none_is_sent(service: Upstream) -> None:
    service.pieces = [body()]
    await collect(service)
    assert "authorization" not in service.requests[0][1]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
async def test_split_at_every_byte(service: Upstream, line_end: bytes) -> None:
    data = body().replace(b"\n", line_end)
    async with httpx.AsyncClient() as client:
        for place in range(1, len(data)):
            service.pieces = [data[:place], data[place:]]
            assert await collect(service, client=client) == TOKENS, data[:place][-40:]
        service.pieces = [bytes([byte]) for byte in data]
        assert await collect(service, client=client) == TOKENS


async def test_each_token_comes_when_it_was_sent(service: Upstream) -> None:
    first, rest = body().split(b"lo, ", 1)
    service.pieces = [first[: first.rindex(b"data:")], 3600.0, rest]
    async with aclosing(openai_tokens([], base_url=service.url, model="m")) as tokens, asyncio.timeout(10):
        assert await anext(tokens) == "Hel"


async def test_a_service_that_says_why_but_not_that_it_ends(service: Upstream) -> None:
    service.pieces = [body(end=b"")]
    assert await collect(service) == TOKENS


async def test_what_our_own_encoder_writes(service: Upstream) -> None:
    encoder = OpenAIEncoder()
    service.pieces = [encoder.opening(), encoder.heartbeat(), *map(encoder.item, TOKENS), encoder.done()]
    assert await collect(service) == TOKENS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": 401, "pieces": [b'{"error": "bad key"}']}, 'answered 401: {"error": "bad key"}'),
        ({"headers": {"Content-Type": "application/json"}, "pieces": [b"{}"]}, "does not stream"),
        ({"pieces": [b'data: {"error": {"message": "overloaded"}}\n\n']}, "overloaded"),
        ({"pieces": [b"data: nonsense\n\n"]}, "no chunk: 'nonsense'"),
        ({"pieces": [b"data: [1]\n\n"]}, "no chunk"),
        ({"pieces": [body()[:300]]}, "ended before its end"),
        ({"pieces": [body()[:300]], "complete": False}, "hung up"),
    ],
)
async def test_a_failure_says_what_is_wrong(service: Upstream, change: dict[str, Any], message: str) -> None:
    for name, value in change.items():
        setattr(service, name, value)
    with pytest.raises(UpstreamError) as raised:
        await collect(service, api_key="secret")
    assert message in str(raised.value)
    assert "secret" not in str(raised.value)
    assert raised.value.status == change.get("status", None if "complete" in change else 200)


@pytest.mark.parametrize("before", [0, 480, 490])
@pytest.mark.parametrize("kind", ["refusal", "error", "no chunk"])
async def test_a_service_that_quotes_the_key_is_not_quoted_with_it(service: Upstream, kind: str, before: int) -> None:
    """Nor with the beginning of one, where the quotation is cut."""
    key = "sk-very-secret-0123456789"
    said = "x" * before + key
    if kind == "refusal":
        service.status, service.pieces = 401, [said.encode()]
    elif kind == "error":
        service.pieces = [b'data: {"error": "%s"}\n\n' % said.encode()]
    else:
        service.pieces = [b"data: %s\n\n" % said.encode()]
    with pytest.raises(UpstreamError) as raised:
        await collect(service, api_key=key)
    assert "sk-very-" not in str(raised.value)
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__


async def test_nobody_there() -> None:
    with pytest.raises(UpstreamError, match="cannot be reached"):
        await collect(Upstream("http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("patience", "what"), [(Patience(first=3.0), "its first token"), (Patience(next=0.3), "the next token")]
)
async def test_silence_ends_and_signs_of_life_are_no_tokens(service: Upstream, patience: Patience, what: str) -> None:
    alive: list[bytes | float] = [b": alive\n\n", 0.05] * 200
    begun = b"\n\n".join(body().split(b"\n\n")[:4]) + b"\n\n"  # up to the first token
    service.pieces = [*([] if "first" in what else [begun]), *alive]
    with pytest.raises(UpstreamError, match=f"fell silent: {what}"):
        await collect(service, patience=patience)


async def test_an_answer_that_does_not_begin_is_silence_too(service: Upstream) -> None:
    service.silence = 60.0
    async with asyncio.timeout(10):
        with pytest.raises(UpstreamError, match="fell silent: its answer did not begin"):
            await collect(service, patience=Patience(first=0.3))


@pytest.mark.parametrize("complete", [True, False])
async def test_a_refusal_that_does_not_end_is_quoted_as_far_as_it_came(service: Upstream, complete: bool) -> None:
    service.status, service.pieces = 503, [b"overloaded", *([60.0] if complete else [])]
    service.complete = complete
    async with asyncio.timeout(10):
        with pytest.raises(UpstreamError, match="answered 503: overloaded") as raised:
            await collect(service, patience=Patience(first=3.0))
    assert raised.value.status == 503


async def test_silence_after_the_finish_is_an_end(service: Upstream) -> None:
    service.pieces = [body(end=b""), 60.0]
    async with asyncio.timeout(10):
        assert await collect(service, patience=Patience(next=0.3)) == TOKENS


async def test_why_it_finished_is_told(service: Upstream) -> None:
    reasons: list[str] = []
    service.pieces = [body().replace(b'"stop"', b'"length"')]
    assert await collect(service, on_finish=reasons.append) == TOKENS
    assert reasons == ["length"]


async def test_who_stops_hangs_up(service: Upstream) -> None:
    frame = body().split(b"\n\n")[3] + b"\n\n"
    service.pieces = [frame, 0.02] * 500
    async with aclosing(openai_tokens([], base_url=service.url, model="m")) as tokens:
        await anext(tokens)
    await asyncio.to_thread(wait_for, lambda: service.left, "the service hears of it")
