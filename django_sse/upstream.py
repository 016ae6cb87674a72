"""Tokens from a service that speaks OpenAI's chat completions, for ``EventStreamResponse`` or ``stream_tokens``.

Needs httpx (``pip install "django-sse-feed[upstream]"``)::

    tokens = openai_tokens([{"role": "user", "content": question}], base_url="https://api.openai.com/v1", api_key=key,
                           model="gpt-4o-mini")
    await stream_tokens(channel, tokens)
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django_sse.exceptions import SSEError
from django_sse.parser import Parser

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

    import httpx

    from django_sse.parser import ReceivedEvent

__all__ = ["Patience", "UpstreamError", "openai_tokens"]

_DONE: Final = "[DONE]"
_SHOWN: Final = 500
"""Characters of a refusal that the error quotes."""


class UpstreamError(SSEError):
    """The service refused, fell silent, or ended before its end. ``status`` is its HTTP status, if it had one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Patience:
    """Seconds that a service may take: to be connected, until its first token, and from each token to the next.

    What it sends to keep the connection alive is no token, and the head of its answer is none either.
    """

    connect: float = 10
    first: float = 120
    next: float = 30


async def openai_tokens(
    messages: Iterable[Mapping[str, Any]],
    *,
    base_url: str,
    model: str,
    api_key: str = "",
    patience: Patience | None = None,
    client: httpx.AsyncClient | None = None,
    on_finish: Callable[[str], object] | None = None,
    **parameters: Any,
) -> AsyncGenerator[str, None]:
    """Yield the text of the first choice as it comes. Closed early, it hangs up, and the service stops.

    ``base_url``: with its ``/v1``. ``parameters``: the rest of the request's body, such as ``temperature``.
    ``client``: an ``httpx.AsyncClient`` of one's own, which stays open.
    ``on_finish``: called with the ``finish_reason``. ``"length"`` and ``"content_filter"`` are ends like any other, but
    of a text that is not whole.
    Raises ``UpstreamError``; its text names no key.
    """
    import httpx

    patience = patience or Patience()
    body = {"model": model, "messages": list(messages), "stream": True, **parameters}
    # How long a token may take is measured below; a read of any bytes has no deadline of its own.
    timeout = httpx.Timeout(None, connect=patience.connect)
    own = client or httpx.AsyncClient()
    deadline = asyncio.get_running_loop().time() + patience.first
    try:
        url = f"{base_url.rstrip('/')}/chat/completions"
        request = own.build_request("POST", url, json=body, headers=_headers(api_key), timeout=timeout)
        try:
            async with asyncio.timeout_at(deadline):
                response = await own.send(request, stream=True)
        except TimeoutError:
            raise UpstreamError("The service fell silent: its answer did not begin.") from None
        async with aclosing(response), aclosing(_tokens(response, patience, deadline, on_finish)) as tokens:
            async for token in tokens:
                yield token
    except httpx.HTTPError as error:
        raise UpstreamError(f"The service cannot be reached, or hung up: {error!r}") from error
    except UpstreamError as error:  # some services quote the key that they were sent, and we may cut the quotation
        text = str(error)
        for length in range(len(api_key), min(len(api_key), 8) - 1, -1) if api_key else ():
            text = text.replace(api_key[:length], "…")
        raise UpstreamError(text, error.status) from None
    finally:
        if client is None:
            await own.aclose()


def _headers(api_key: str) -> dict[str, str]:
    """Return the headers of a request. Not kept: services that collect errors show what a variable has, and know a key
    by the name ``api_key`` alone."""
    return {"Accept": "text/event-stream"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})


async def _tokens(
    response: httpx.Response, patience: Patience, deadline: float, on_finish: Callable[[str], object] | None
) -> AsyncGenerator[str, None]:
    if response.status_code != 200:
        said = await _refusal(response, deadline)
        raise UpstreamError(f"The service answered {response.status_code}: {said}", response.status_code)
    kind = response.headers.get("Content-Type", "")
    if not kind.startswith("text/event-stream"):
        raise UpstreamError(f"The service does not stream: its answer is {kind!r}, not an event stream.", 200)
    loop = asyncio.get_running_loop()
    parser, pieces = Parser(), response.aiter_bytes()
    what, finished = "its first token", False
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                data = await anext(pieces, None)
        except TimeoutError:
            if finished:
                return
            raise UpstreamError(f"The service fell silent: {what} did not come.", 200) from None
        if data is None:
            if finished:  # some say why they finish, and not that they have
                return
            raise UpstreamError("The service ended before its end: neither [DONE] nor a finish_reason came.", 200)
        for event in parser.feed(data):
            if event.data == _DONE:
                return
            text, reason = _read(event)
            if reason and not finished:
                finished = True
                if on_finish:
                    on_finish(reason)
            if text:
                yield text
                deadline, what = loop.time() + patience.next, "the next token"


async def _refusal(response: httpx.Response, deadline: float) -> str:
    """Return the beginning of what a refusal says, as much of it as comes in time."""
    import httpx

    said = b""
    with suppress(TimeoutError, httpx.HTTPError):
        async with asyncio.timeout_at(deadline):
            async for data in response.aiter_bytes():
                said += data
                if len(said) >= _SHOWN:
                    break
    return said.decode(errors="replace")[:_SHOWN]


def _read(event: ReceivedEvent) -> tuple[str, str | None]:
    """Return the text of a chunk and, if it is the last with any, why."""
    try:
        chunk = json.loads(event.data)
        if chunk.get("error"):
            raise UpstreamError(f"The service failed: {json.dumps(chunk['error'])[:_SHOWN]}", 200)
        choices = [choice for choice in chunk.get("choices") or () if not choice.get("index")]
        text = "".join((choice.get("delta") or {}).get("content") or "" for choice in choices)
        return text, next((str(reason) for choice in choices if (reason := choice.get("finish_reason"))), None)
    except (ValueError, TypeError, AttributeError) as error:
        raise UpstreamError(f"The service sent what is no chunk: {event.data[:_SHOWN]!r}", 200) from error
