"""As the live tests' settings, with what a test of faults wants to be different in the environment."""

from __future__ import annotations

import json
import os

from tests.live.settings import *  # noqa: F403
from tests.live.settings import DATABASES, INSTALLED_APPS

if port := os.environ.get("FAULTS_DIRECT_PORT"):
    # The same database by another way, which only the broker goes.
    DATABASES["direct"] = {**DATABASES["default"], "PORT": port}
given = json.loads(os.environ.get("FAULTS_SETTINGS", "{}"))
for alias, changes in given.pop("DATABASES", {}).items():
    DATABASES[alias] = {**DATABASES["default"], **changes}
INSTALLED_APPS = [*INSTALLED_APPS, *given.pop("INSTALLED_APPS", [])]
globals().update(given)
