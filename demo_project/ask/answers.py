"""A question and the thread that answers it. The thread belongs to no request: leaving is not stopping."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import asdict, dataclass, field
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Self

from demo_project.ask import model
from django_sse.tokens import stream_tokens
from django_sse.upstream import UpstreamError

if TYPE_CHECKING:
    from django.contrib.sessions.backends.base import SessionBase

__all__ = ["LENGTHS", "Question", "begin", "find"]

logger = logging.getLogger(__name__)

LENGTHS: Final = {"short": "120 words", "long": "2,000 words"}
_KEY: Final = "asked"
_KEPT: Final = 20
"""Questions that a visitor's session remembers."""


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
    Thread(target=_answer, args=[question], name=f"demo answer {question.id}", daemon=True).start()


def find(session: SessionBase, id: str) -> Question | None:
    """Return the question, if this visitor asked it: nobody else may read the answer."""
    return next((Question.of(stored) for stored in session.get(_KEY, []) if stored["id"] == id), None)


def _answer(question: Question) -> None:
    try:
        asyncio.run(stream_tokens(question.channel, model.tokens(question)))
    except UpstreamError as error:
        logger.warning("%s", error)  # the page hears that it failed, by the end of the text
