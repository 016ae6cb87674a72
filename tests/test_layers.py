"""DESIGN: imports go one way, and a file stays small enough to be one noun."""

from __future__ import annotations

import ast
from pathlib import Path
from statistics import median

import pytest

PACKAGE = Path(__file__).parent.parent / "django_sse"
LEVELS = [
    {"exceptions", "conf", "clock", "stepper", "surrogates", "unspoken", "descriptors"},
    {
        *{"wire", "channels", "cursor", "detach", "readable", "parser", "connection"},
        *{"control", "address", "origins", "allowance", "census", "seal"},
    },
    {"ring", "models", "upstream", "grant"},
    {"log", "gate", "encoders", "recheck"},
    {"sequencer", "brokers", "retention", "source", "compaction", "tickets", "examiner"},
    {"publish", "reader", "hub", "rounds"},
    {"stream", "drain", "writer", "warden", "revocation"},
    {"responses", "access", "views", "asgi", "changelist", "replay", "tokens", "polling", "admission"},
    {
        *{"templatetags", "script", "admin", "checks", "management", "signals"},
        *{"tasks", "testing", "apps", "urls", "consumers"},
    },
]
LEVEL = {module: number for number, modules in enumerate(LEVELS) for module in modules}
NO_DJANGO = {
    *{"exceptions", "clock", "stepper", "wire", "cursor", "ring"},
    *{"detach", "readable", "parser", "connection", "control", "surrogates", "unspoken"},
}
WITHIN = {
    # The few that may use a neighbour on their own level, in one direction.
    ("hub", "reader"),
    ("stream", "drain"),
    ("stream", "warden"),
    ("admission", "access"),
    ("admission", "responses"),
    ("views", "admission"),
    ("parser", "wire"),
    ("views", "access"),
    ("views", "polling"),
    ("views", "responses"),
    ("urls", "views"),
    ("templatetags", "script"),
    ("apps", "checks"),
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)


def module_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_modules(path: Path) -> set[str]:
    """Every module that the file imports, wherever in the file, except for type checkers alone."""
    names: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text())]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        pending += ast.iter_child_nodes(node)
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    importer = module_of(path)
    if importer == "__init__":
        assert not any(name.startswith("django_sse.") for name in imported_modules(path))
        return
    assert importer in LEVEL, f"{importer} has no level: give it one in docs/design.md and here"
    for name in imported_modules(path):
        if name.startswith("django_sse."):
            imported = name.split(".")[1]
            if imported in LEVEL and imported != importer:
                lower = LEVEL[imported] < LEVEL[importer]
                assert lower or (importer, imported) in WITHIN, f"{importer} may not import {imported}"
        elif importer in NO_DJANGO:
            assert name.split(".")[0] != "django", f"{importer} may not know Django, but imports {name}"


def test_every_level_names_modules_that_exist() -> None:
    assert set(LEVEL) == {module_of(path) for path in FILES} - {"__init__"}


def test_files_are_small() -> None:
    lines = {path: len(path.read_text().splitlines()) for path in FILES if path.name != "__init__.py"}
    assert {path.name: count for path, count in lines.items() if count > 300} == {}
    assert median(lines.values()) <= 120


def test_no_drawers() -> None:
    assert not {path.stem for path in FILES} & {"utils", "helpers", "common", "managers", "misc"}
