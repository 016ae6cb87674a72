"""What a project's own code raised, as it may stand in our log. No Django in here."""

from __future__ import annotations

__all__ = ["Unspoken"]


class Unspoken(Exception):
    """What ``error`` is and where it was raised, without its words: they may name a channel or somebody's data.

    It is never raised, only logged.
    """

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__qualname__)
        self.__traceback__ = error.__traceback__
