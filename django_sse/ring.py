"""The recent frames of one process, encoded once and shared by every stream. No Django in here."""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Frame", "Ring", "join"]

WRITE_BYTES: Final = 64 * 1024
"""A write stops growing here: what one slow client can hold of the process is this much and one frame."""
MEMO_BYTES: Final = 4 * 1024 * 1024
"""Joined writes kept for the streams that will ask the same question before the next event."""

ENTRY_BYTES: Final = 250
"""What an entry costs beside its bytes: the key and the pair."""
CHANNEL_BYTES: Final = 260
"""What each channel of the key costs at the most: its name, and its place in the set."""

_position = attrgetter("position")


class Frame(NamedTuple):
    """The bytes of one event, with its position and channel."""

    position: int
    channel: str
    data: bytes


def join(frames: Sequence[Frame], end: int) -> tuple[bytes, int]:
    """Return the bytes of ``frames`` up to ``WRITE_BYTES``, and the cursor after them.

    The cursor is ``end`` when all frames went in. One frame is handed on as it is, not copied.
    """
    if len(frames) == 1:
        return frames[0].data, end
    size = 0
    for count, frame in enumerate(frames):
        size += len(frame.data)
        if size > WRITE_BYTES and count:
            return b"".join([frame.data for frame in frames[:count]]), frames[count - 1].position
    return b"".join([frame.data for frame in frames]), end


class Ring:
    """The frames of every event after ``floor`` up to ``head``, found per channel.

    ``after`` costs what it returns, not what other channels hold. Streams that stand at the same place in the same
    channels get the same bytes object.
    """

    def __init__(self, size: int, position: int = 0) -> None:
        self.size = size
        self.clear(position)

    def clear(self, position: int) -> None:
        """Forget everything and stand at ``position``."""
        self.floor = self.head = position
        self._frames: deque[Frame] = deque()
        self._channels: dict[str, deque[Frame]] = {}
        self._forget_joined()

    def extend(self, frames: Iterable[Frame], head: int) -> None:
        """Add what came after ``head``, in order; drop the oldest beyond ``size``."""
        for frame in frames:
            self._frames.append(frame)
            self._channels.setdefault(frame.channel, deque()).append(frame)
        while len(self._frames) > self.size:
            oldest = self._frames.popleft()
            channel = self._channels[oldest.channel]
            channel.popleft()
            if not channel:
                del self._channels[oldest.channel]
            self.floor = oldest.position
        self.head = head
        self._forget_joined()

    def reaches(self, cursor: int) -> bool:
        """Tell whether everything after ``cursor`` is here."""
        return self.floor <= cursor <= self.head

    def after(self, cursor: int, channels: frozenset[str]) -> tuple[bytes, int]:
        """Return the bytes of what follows ``cursor`` in ``channels``, as one write, and the new cursor."""
        if cursor == self.head:
            return b"", cursor
        key = (cursor, channels)
        answer = self._joined.get(key)
        if answer is None:
            answer = join(self._find(cursor, channels), self.head)
            self._joined_bytes += len(answer[0]) + ENTRY_BYTES + CHANNEL_BYTES * len(channels)
            if self._joined_bytes > MEMO_BYTES:
                self._forget_joined()
            self._joined[key] = answer
        return answer

    def _find(self, cursor: int, channels: frozenset[str]) -> list[Frame]:
        found: list[Frame] = []
        for channel in channels:
            frames = reversed(self._channels.get(channel, ()))
            found.extend(takewhile(lambda frame: frame.position > cursor, frames))
        found.sort(key=_position)
        return found

    def _forget_joined(self) -> None:
        self._joined: dict[tuple[int, frozenset[str]], tuple[bytes, int]] = {}
        self._joined_bytes = 0
