"""What is not said: the words of what a project's own code raised, and secrets in local variables. No Django in here.

A log has the lines of a traceback alone. Services that collect errors, such as Sentry, look at the traceback that they
find there, and take the local variables of every frame with it, by their ``repr``.
"""

from __future__ import annotations

from types import TracebackType

__all__ = ["Secret", "Unspoken"]


class Unspoken(Exception):
    """What ``error`` is and where it was raised, without its words: they may name a channel or somebody's data.

    Nor with the frames of ours that it passed: their variables hold the sessions and channels of many, and ``error``
    itself. It is never raised, only logged.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__qualname__)
        self.__traceback__ = _without_ours(error.__traceback__)


class Secret(str):
    """A text that does not show itself where variables are shown."""

    __slots__ = ()

    @classmethod
    def of(cls, text: str | None) -> Secret | None:
        """Return ``text``, where there is any, as a secret."""
        return None if text is None else cls(text)

    def __repr__(self) -> str:
        return "<Secret>"


def _without_ours(traceback: TracebackType | None) -> TracebackType | None:
    package, _, _ = __name__.partition(".")
    kept: list[TracebackType] = []
    while traceback:
        name = str(traceback.tb_frame.f_globals.get("__name__"))
        if name.partition(".")[0] != package or traceback.tb_next is None:  # the last one is where it was raised
            kept.append(traceback)
        traceback = traceback.tb_next
    rest: TracebackType | None = None
    for one in reversed(kept):
        rest = TracebackType(rest, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return rest
