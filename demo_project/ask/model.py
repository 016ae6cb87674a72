"""Who answers: a small generator on this machine, or the service that the environment names."""

from __future__ import annotations

import asyncio
import os
import random
from typing import TYPE_CHECKING, Final

from demo_project.ask.markov import chain
from django_sse.upstream import openai_tokens

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from demo_project.ask.answers import Question

__all__ = ["describe", "tokens"]

THINKS: Final = 0.5
"""Seconds before the first word, as a model has them."""
PAUSES: Final = {"short": 0.04, "long": 0.006}
WORDS: Final = {"short": 120, "long": 2000}


def describe() -> str:
    """Say who answers."""
    if service := os.environ.get("OPENAI_BASE_URL"):
        return f"{_model()} at {service}"
    return "a Markov chain on this machine, trained on this project's documentation: grammatical at best"


def tokens(question: Question) -> AsyncIterator[str]:
    """Return what the model says, the same each time only where it is ours."""
    base_url, key = os.environ.get("OPENAI_BASE_URL"), os.environ.get("OPENAI_API_KEY", "")
    if base_url:
        messages = [{"role": "user", "content": question.text}]
        return openai_tokens(messages, base_url=base_url, api_key=key, model=_model())
    return _babble(question)


def _model() -> str:
    return os.environ.get("OPENAI_MODEL", "gpt-4o-mini")


async def _babble(question: Question) -> AsyncIterator[str]:
    pace = random.Random(question.seed)  # both ways of asking wait the same
    await asyncio.sleep(THINKS)
    for word in chain().words(question.text, WORDS[question.length], question.seed):
        await asyncio.sleep(pace.uniform(0.3, 1.7) * PAUSES[question.length])
        yield word
