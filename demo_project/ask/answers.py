"""A question and the thread that answers it. The thread belongs to no request: leaving is not stopping.

It ends with its process, and a text that nobody writes would never end. So whoever is asked for it looks who writes it:
each process that begins says so on the channel, and where that one is gone, the answer is begun again. Our model has
the same words then, and each event says from which character on it counts, so nothing is lost or there twice.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from dataclasses import asdict, dataclass, field
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, Final, Self

import psutil

from demo_project.ask import model
from django_sse import send_event
from django_sse.models import Event
from django_sse.tokens import stream_tokens
from django_sse.upstream import UpstreamError

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

__all__ = ["LENGTHS", "Question", "begin", "find", "take_up"]

logger = logging.getLogger(__name__)

LENGTHS: Final = {"short": "120 words", "long": "2,000 words"}
_KEY: Final = "asked"
_KEPT: Final = 20
"""Questions that a visitor's session remembers."""
_WRITER: Final = "writer"
"""The type of the event that says which process answers."""
_answering: Final[set[str]] = set()
"""The questions that threads of this process are at."""
_lock: Final = Lock()


@dataclass(frozen=True)
class Question:
    text: str
    length: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    seed: int = field(default_factory=lambda: secrets.randbelow(2**32))
    asked_at: float = field(default_factory=time.time)

    @property
    def channel(self) -> str:
        return f"ask.{self.id}"

    @property
    def age(self) -> int:
        """Milliseconds since it was asked."""
        return round((time.time() - self.asked_at) * 1000)

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Self:
        return cls(**stored)


def begin(session: SessionBase, question: Question) -> None:
    """Remember who asked, and begin to answer."""
    session[_KEY] = [*session.get(_KEY, [])[-_KEPT + 1 :], asdict(question)]
    session.save()
    take_up(question)


def take_up(question: Question) -> None:
    """Begin to answer, or begin again what a process that has ended did not finish; unless somebody is at it."""
    with _lock:
        said = Event.objects.filter(channel=question.channel, type__in=(_WRITER, "done")).order_by("-pk").first()
        if question.id in _answering or (said and (said.type == "done" or _lives(json.loads(said.data)))):
            return
        # Of several processes that see the same end of another, the key lets one be the next.
        me = {"pid": os.getpid(), "since": psutil.Process().create_time()}
        event = send_event(question.channel, _WRITER, me, key=f"{_WRITER}.{said.pk if said else 0}")
        if event is None or json.loads(event.data) != me:
            return
        _answering.add(question.id)
    Thread(target=_answer, args=[question], name=f"demo answer {question.id}", daemon=True).start()


def _lives(writer: dict[str, Any]) -> bool:
    """Tell whether the process still runs. It is not this one: that may have become a new program (see ``versus``)."""
    try:
        process = psutil.Process(writer["pid"])
        is_it = process.pid != os.getpid() and process.create_time() == writer["since"]
        return is_it and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def find(session: SessionBase, id: str) -> Question | None:
    """Return the question, if this visitor asked it: nobody else may read the answer."""
    return next((Question.of(stored) for stored in session.get(_KEY, []) if stored["id"] == id), None)


def _answer(question: Question) -> None:
    try:
        asyncio.run(stream_tokens(question.channel, model.tokens(question)))
    except UpstreamError as error:
        logger.warning("%s", error)  # the page hears that it failed, by the end of the text
    finally:
        _answering.discard(question.id)
