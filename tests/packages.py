"""What the tests take from npm: installed when the first test asks, as the lock file says."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from tests.services import missing

__all__ = ["NPM", "need_packages"]

NPM = Path(__file__).parent / "npm"


def need_packages() -> Path:
    """Return the folder ``node_modules``; skip where npm is missing or cannot fetch, except in CI."""
    modules = NPM / "node_modules"
    wanted = json.loads((NPM / "package.json").read_text())["dependencies"]
    if not all((modules / name).exists() for name in wanted):
        npm = shutil.which("npm") or missing("This test needs npm to install packages: npm was not found.")
        install = subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=NPM, timeout=120, check=False)
        if install.returncode:
            missing(f"This test needs packages from npm: npm ci in {NPM} ended with {install.returncode}.")
    return modules
