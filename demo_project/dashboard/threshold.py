from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

__all__ = ["Threshold"]


@dataclass
class Threshold:
    """A figure that must not rise above ``limit``.

    It is over again only below ``clear_below``: a figure that trembles around one limit would raise and clear
    an alert with every sample.
    """

    name: str
    level: Literal["warning", "critical"]
    text: str
    """Takes the figure as ``{figure}``."""
    limit: float
    clear_below: float
    crossed: bool | None = field(default=None, init=False)
    """None before the first look."""

    def look(self, figure: float) -> bool:
        """Return whether there is news: crossed, back, or the first look at all, since an earlier run of the
        demo may have left an alert in the log."""
        was = self.crossed
        self.crossed = figure > self.limit or (bool(was) and figure >= self.clear_below)
        return self.crossed != was

    def describe(self, figure: float) -> str:
        return self.text.format(figure=f"{figure:.0f}")
