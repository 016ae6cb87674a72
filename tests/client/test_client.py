"""``client.js``: its size, what it never does, and its own tests under node."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from django.contrib.staticfiles import finders

from tests.services import missing

HERE: Final = Path(__file__).parent
LIMIT: Final = 4096


def source() -> str:
    path = finders.find("django_sse/client.js")
    assert isinstance(path, str)
    return Path(path).read_text()


def shrunk(script: str) -> str:
    """Return ``script`` without comments, indentation and spaces around punctuation, with short private names. A
    minifier does better."""
    script = re.sub(r"^\s+|(^|\s+)//.*$", "", script, flags=re.MULTILINE)
    script = re.sub(r"\n+", "\n", script)
    private = list(dict.fromkeys(re.findall(r"#\w+", script)))
    script = re.sub(r"#\w+", lambda name: f"#{chr(97 + private.index(name[0]))}", script)
    return re.sub(r"[ \n]*([{}()\[\];,:?=<>+*/&|!.-])[ \n]*", r"\1", script)


def test_it_is_small() -> None:
    assert len(shrunk(source()).encode()) <= LIMIT


def test_what_is_counted_is_still_the_client(tmp_path: Path) -> None:
    """The count above would be worth nothing if it had lost code: the shrunk client passes the same tests."""
    (tmp_path / "client.js").write_text(shrunk(source()))
    test = (HERE / "client.test.mjs").read_text()
    address = "../../django_sse/static/django_sse/client.js"
    assert test.count(address) == 1
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "client.test.mjs").write_text(test.replace(address, "./client.js"))
    run(tmp_path / "client.test.mjs")


def test_it_never_writes_html_nor_runs_text() -> None:
    forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|createContextualFragment|\beval\b|Function\("
    assert not re.search(forbidden, source())


def test_it_does_what_it_says() -> None:
    run(HERE / "client.test.mjs")


def run(path: Path) -> None:
    node = shutil.which("node") or missing("These tests need node 20.11 or newer (Debian package nodejs).")
    done = subprocess.run([node, "--test", str(path)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
    assert re.search(r"^# pass [1-9]", done.stdout, re.MULTILINE), done.stdout[-2000:]
