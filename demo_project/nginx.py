"""The configuration files of ``deploy/``, adapted to this machine: the cluster and the tests run those very files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["DEPLOY", "configure", "find"]

DEPLOY: Final = Path(__file__).resolve().parent.parent / "deploy"


def find() -> str | None:
    """Return nginx's path, if there is one."""
    # Debian keeps it where only root looks.
    return shutil.which("nginx", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"]))


def configure(
    directory: Path,
    port: int,
    upstreams: Sequence[int],
    *,
    static: Path | None = None,
    replaced: Mapping[str, str] = {},
) -> Path:
    """Copy ``nginx.conf`` and ``site.conf`` to ``directory``, adapted as ``site.conf`` says, all but the name.

    ``port``: what nginx listens on; ``upstreams``: the ports of the servers behind it; ``static``: what is served below
    ``/static/``; ``replaced``: further text of ``site.conf``, old and new. All on this machine alone.
    Returns nginx's main file; ``directory`` is to be the prefix (``-p``). Raises ``ValueError`` for text that the file
    does not have exactly once.
    """
    servers = "\n    ".join(f"server 127.0.0.1:{upstream} fail_timeout=2s;" for upstream in upstreams)
    site = (DEPLOY / "site.conf").read_text()
    adapted = {
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "server 127.0.0.1:8000 fail_timeout=2s;": servers,
        "alias /srv/shop/static/;": f"alias {static or directory}/;",
        **replaced,
    }
    for old, new in adapted.items():
        if site.count(old) != 1:
            raise ValueError(f"site.conf has {old!r} {site.count(old)} times, not once.")
        site = site.replace(old, new)
    (directory / "deploy").mkdir(parents=True, exist_ok=True)
    (directory / "deploy/site.conf").write_text(site)
    (directory / "var/nginx").mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(DEPLOY / "nginx.conf", directory / "deploy/nginx.conf"))
