"""A plugin for pytest that writes what became of each test, and its figures, to the file ``FAULTS_RESULTS``."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        return  # who has started the workers hears of it too
    if report.when == "call" or report.outcome != "passed":
        line = {
            "test": report.nodeid,
            "outcome": report.outcome,
            "seconds": round(report.duration, 1),
            "figures": dict(report.user_properties),
        }
        with Path(os.environ["FAULTS_RESULTS"]).open("a") as file:
            file.write(json.dumps(line) + "\n")
