from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.wire.parsers import Node, Parsers

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def parsers() -> Iterator[Parsers]:
    node = Node()
    yield Parsers(node)
    node.close()
