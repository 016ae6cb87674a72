"""Runs ``error_reports`` in a process of its own: Sentry's client patches threads, handlers and logging for good."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.settings import NAME

TESTS = Path(__file__).with_name("error_reports.py")


def test_what_is_sent_holds_nothing_secret() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "--create-db", "--no-cov", "-p", "no:cacheprovider", str(TESTS)]
    done = subprocess.run(
        command, env={**os.environ, "TEST_NAME": f"{NAME}_reports"}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
