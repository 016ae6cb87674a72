"""Four parsers of event streams, three of them other people's, behind one question: what does a client see?

They are fed whole and one byte at a time. Where one of them is not a complete client, this says so and no test holds it
against us:

``httpx-sse``
    Is given bytes through its public ``EventSource`` over an ``httpx.Response``. It reports a block without any data as
    an event with empty data (9.2.6 fires nothing), so ``Seen.silence`` cannot be told from an empty event; and httpx
    does not drop a leading BOM, so we do. Before 0.4.2 it split lines with ``str.splitlines`` and so at U+2028.
``eventsource-parser`` (npm)
    Is given text that ``TextDecoder`` made, BOM dropped. It hands over each block's own id: remembering the last one
    is its user's part.
``undici`` (npm)
    The parser inside Node's ``EventSource``, given bytes. A complete client, but for ``id`` with an empty value, which
    we never send.
``django_sse``
    ``django_sse.testing.Parser``, so that what the users of the package test with agrees with the others.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
from httpx_sse import EventSource

from django_sse.testing import Parser
from tests.packages import NPM, need_packages
from tests.services import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Node", "Parsers", "Seen", "SeenEvent", "lines_to_lf"]

BOM = b"\xef\xbb\xbf"


class SeenEvent(NamedTuple):
    type: str
    data: str
    id: str


@dataclass
class Seen:
    """What one parser made of a body."""

    events: list[SeenEvent]
    last_event_id: str | None = None
    """``None``: this parser does not say."""
    retry: list[object] = field(default_factory=list)
    extras: list[object] = field(default_factory=list)
    """Comments, and what a parser complained about: where it says so, nothing of the body went by unseen."""


def lines_to_lf(text: str) -> str:
    """Return ``text`` with the ends of its lines as an event stream hands them over: LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _pieces(body: bytes, each: bool) -> Iterator[bytes]:
    return (body[at : at + 1] for at in range(len(body))) if each else iter([body])


def _httpx_sse(body: bytes, each: bool) -> Seen:
    response = httpx.Response(
        200,
        headers={"Content-Type": "text/event-stream; charset=utf-8"},
        content=_pieces(body.removeprefix(BOM), each),
        request=httpx.Request("GET", "http://localhost/"),
    )
    events = list(EventSource(response).iter_sse())
    return Seen(
        [SeenEvent(event.event, event.data, event.id) for event in events],
        retry=[event.retry for event in events if event.retry is not None],
    )


def _django_sse(body: bytes, each: bool) -> Seen:
    parser = Parser()
    events = [event for piece in _pieces(body, each) for event in parser.feed(piece)]
    return Seen(
        [SeenEvent(event.type, event.data, event.last_event_id) for event in events],
        parser.last_event_id,
        [] if parser.retry is None else [parser.retry],
    )


class Node:
    """One process for the whole session: a line of JSON in, a line of JSON out."""

    def __init__(self) -> None:
        node = shutil.which("node") or missing("The wire tests need Node 20 or newer: node was not found.")
        need_packages()
        self._process = subprocess.Popen([node, "parse.mjs"], cwd=NPM, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def parse(self, body: bytes, each: bool) -> dict[str, Seen]:
        process: Any = self._process
        request = {"body": b64encode(body).decode(), "each": each}
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        assert answer, f"node ended with {process.wait(10)}; its last request: {request}"
        return {
            name: Seen(
                [SeenEvent(*event) for event in seen["events"]],
                seen["lastEventId"],
                seen["retry"],
                seen["comments"] + seen["errors"],
            )
            for name, seen in json.loads(answer).items()
        }

    def close(self) -> None:
        with self._process as process:  # closes the pipes, so the loop of the script ends, and waits
            assert process.stdin
            process.stdin.close()


class Parsers:
    """``parsers(body)``: what each parser sees, by its name and how it was fed."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def __call__(self, body: bytes, *, bytewise: bool = True) -> dict[str, Seen]:
        seen: dict[str, Seen] = {}
        for each, how in [(False, "whole"), (True, "byte by byte")][: 1 + bytewise]:
            answers = {
                "httpx-sse": _httpx_sse(body, each),
                "django_sse": _django_sse(body, each),
                **self._node.parse(body, each),
            }
            seen |= {f"{name}, {how}": answer for name, answer in answers.items()}
        return seen
