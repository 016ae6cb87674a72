from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.live.conftest import Database, book, database_of, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["book", "database", "database_of", "directory", "start"]


@pytest.fixture
def database(database_of: Callable[[str], Database]) -> Database:
    return database_of("sqlite")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """nginx's own."""
    path = tmp_path / "nginx"
    path.mkdir()
    return path
