"""The real browser of the tests, and what a test does on a machine that lacks what it needs."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

__all__ = ["chromium", "missing"]

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def missing(what: str) -> NoReturn:
    """Skip, and say why; under ``CI=true`` fail, for there nobody reads the reasons of skipped tests."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{what} With CI set that is a failure, not a skip.", pytrace=False)
    pytest.skip(what)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the machine's Chromium or Chrome, else the one that ``playwright install chromium`` put there.

    Playwright's sync API keeps an event loop in the thread until the end of the block: neither the ORM nor async tests
    run in it meanwhile. Use it in a fixture of a scope that ends before theirs begin.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError:
        missing("The browser tests need Playwright: pip install playwright.")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        except Error as error:
            if "Executable doesn't exist" not in error.message:
                raise
            missing("The browser tests need Chromium or Chrome; none was found: playwright install chromium.")
        try:
            yield browser
        finally:
            browser.close()
