"""Run every test of faults, several at a time, since most of what they do is wait: ``make faults``.

Arguments are pytest's.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from tests.server import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["run"]

QUIET: Final = "tests/faults/test_proxy.py::test_a_quiet_stream_is_not_cut_with_everything_as_it_is"
"""Takes ten minutes and nothing else, so it goes on beside all others."""
AT_A_TIME: Final = 3
"""More than a small machine has cores. Tests that need the machine are of the group ``loud``: one at a time."""


def run(*arguments: str, env: Mapping[str, str] = os.environ) -> int:
    """Return 0 where all have passed. What the quiet one says is printed at the end."""
    command = [sys.executable, "-m", "pytest", *arguments]
    others = [*command, f"-n{AT_A_TIME}", "--dist=loadgroup", f"--deselect={QUIET}", "tests/faults"]
    with subprocess.Popen([*command, QUIET], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as quiet:
        status = subprocess.run(others, cwd=ROOT, env=env, check=False).returncode
        said, _ = quiet.communicate()
    print(said)  # noqa: T201
    return status or quiet.returncode


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
