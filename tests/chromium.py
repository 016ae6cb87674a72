"""The real browser of the tests."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.services import missing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

__all__ = ["chromium"]

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
WITHOUT = ("--disable-back-forward-cache",)
"""What Playwright would add, but visitors have."""
PATIENCE: Final = 30
"""Seconds after which what ``expect`` waits for counts as not happening, in whatever test; nothing waits for it to
pass."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the machine's Chromium or Chrome, else the one that ``playwright install chromium`` put there.

    Playwright's sync API keeps an event loop in the thread until the end of the block: neither the ORM nor async tests
    run in it meanwhile. Use it in a fixture of a scope that ends before theirs begin.
    """
    try:
        from playwright.sync_api import Error, expect, sync_playwright
    except ImportError:
        missing("The browser tests need Playwright: pip install playwright.")
    expect.set_options(timeout=PATIENCE * 1000)
    path = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS, ignore_default_args=WITHOUT)
        except Error as error:
            if "Executable doesn't exist" not in error.message:
                raise
            missing("The browser tests need Chromium or Chrome; none was found: playwright install chromium.")
        try:
            yield browser
        finally:
            browser.close()
