"""Words that follow words: a Markov chain of second order, trained on the project's own documentation."""

from __future__ import annotations

import random
import re
from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, Final

from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Chain", "chain"]

_CODE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_NOT_PROSE: Final = re.compile(r"^(#|\||!|<|\*{3})")
_END: Final = (".", "!", "?", ":")


class Chain:
    """It knows which word followed which two. It understands nothing, and does not claim to."""

    def __init__(self, text: str) -> None:
        self._following: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._beginnings: list[tuple[str, str]] = []
        words = text.split()
        for one, two, three in zip(words, words[1:], words[2:], strict=False):
            self._following[one, two].append(three)
            if one.endswith(_END[:3]) and two[:1].isupper():
                self._beginnings.append((two, three))

    def words(self, question: str, count: int, seed: int) -> Iterator[str]:
        """Yield about ``count`` words, each with the space before it: the same for the same arguments.

        They begin with a sentence that shares a word with ``question``, if there is one.
        """
        draw = random.Random(seed)
        asked = {word for word in re.findall(r"\w{4,}", question.lower()) if word != "what"}
        fitting = [pair for pair in self._beginnings if asked & {word.lower().strip(".,:`") for word in pair}]
        pair = draw.choice(fitting or self._beginnings)
        yield pair[0]
        yield f" {pair[1]}"
        for number in range(2, count + 60):
            following = self._following.get(pair)
            if not following or (number >= count and pair[1].endswith(_END[:3])):
                if number >= count:
                    return
                pair = draw.choice(self._beginnings)
                yield f" {pair[0]}"
                yield f" {pair[1]}"
                continue
            pair = (pair[1], draw.choice(following))
            yield f" {pair[1]}"


@cache
def chain() -> Chain:
    """Return the chain of README and docs, trained when it is first needed: it takes some milliseconds."""
    base = settings.BASE_DIR
    prose = []
    for page in [base / "README.md", *sorted((base / "docs").glob("*.md"))]:
        text = _LINK.sub(r"\1", _CODE.sub("", page.read_text()))
        prose += [re.sub(r"^\s*(\*|\d\.)\s", "", line) for line in text.splitlines() if not _NOT_PROSE.match(line)]
    return Chain(re.sub(r"[*`]", "", " ".join(prose)))
