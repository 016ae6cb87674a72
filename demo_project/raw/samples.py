"""Events whose bytes are worth a look."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RAW", "SAMPLES", "Sample"]

RAW: Final = "public.raw"


class Sample(NamedTuple):
    title: str
    why: str
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]

    @property
    def code(self) -> str:
        """The very call, as Python."""
        arguments = [repr(value) for value in (RAW, *self.arguments)]
        options = [f"{name}={value!r}" for name, value in self.options.items()]
        return f"send_event({', '.join([*arguments, *options])})"


SAMPLES: Final[Mapping[str, Sample]] = {
    "plain": Sample("Plain", "No event: line, so onmessage receives it.", (None, {"n": 1, "ok": True}), {}),
    "named": Sample("Named", "An event: line names the type.", ("note", {"by": "Ada"}), {}),
    "lines": Sample(
        "Many lines",
        "One data: line each; the browser joins them.",
        (),
        {"text": "<p>\n  Roses,\n\n  violets\n</p>"},
    ),
    "ephemeral": Sample(
        "Ephemeral", "No id: line, no row, no replay.", ("note", {"typing": "Grace"}), {"store": False}
    ),
    "odd": Sample(
        "Odd characters",
        "Nothing is escaped, nothing is lost.",
        (),
        {"text": '   three spaces, "quotes", it\'s </script><b>not bold</b>, 🛰 é ß 漢, [\u2028]'},
    ),
}
