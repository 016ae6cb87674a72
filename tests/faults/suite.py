"""Run every test of faults, several at a time, since most of what they do is wait: ``make faults``.

Arguments are pytest's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from tests.server import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["run"]

QUIET: Final = "tests/faults/test_proxy.py::test_a_quiet_stream_is_not_cut_with_everything_as_it_is"
"""Takes ten minutes and nothing else, so it goes on beside all others."""
PARTS: Final = {
    "two at a time": ["-m", "not loud", "-n2", "--maxschedchunk=1", f"--deselect={QUIET}", "tests/faults"],
    "one at a time": ["-m", "loud", "tests/faults"],
    "a quiet stream": [QUIET],
}
"""What goes on at the same time. Each pytest has services, databases, ports and folders of its own."""


def run(*arguments: str, env: Mapping[str, str] = os.environ) -> int:
    """Return 0 where all have passed. What a part says is printed when it has ended, lest they talk at once."""
    with ExitStack() as stack:
        running = []
        for name, part in PARTS.items():
            said = stack.enter_context(tempfile.TemporaryFile("w+"))
            command = [sys.executable, "-m", "pytest", *arguments, *part]
            process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=said, stderr=subprocess.STDOUT)
            running.append((name, stack.enter_context(process), said))
        for name, process, said in running:
            process.wait()
            said.seek(0)
            print(f"\n=== {name}\n{said.read()}", flush=True)  # noqa: T201
    return max(abs(process.returncode) for _, process, _ in running)


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
