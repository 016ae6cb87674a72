"""A script in a process of its own, with the demo's settings: those of the other tests are others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["run"]

ROOT = Path(__file__).resolve().parents[2]
BEGIN = """
import django
from django.core.management import call_command

django.setup()
call_command("migrate", verbosity=0)
"""


def run(script: str, folder: Path) -> str:
    """Return what ``script`` prints, with the demo set up and an empty database in ``folder``."""
    answer = subprocess.run(
        [sys.executable, "-c", BEGIN + script],
        cwd=ROOT,
        env={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "demo_project.settings",
            "DEMO_DATABASE": str(folder / "demo.sqlite3"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout
