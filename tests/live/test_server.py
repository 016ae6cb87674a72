"""What starts the servers notices when one of them is not well."""

from __future__ import annotations

import psutil
import pytest

from tests.live.database import SETTINGS
from tests.server import serve


def test_a_server_that_cannot_start_fails_with_what_it_wrote(tmp_path):
    with (
        pytest.raises(AssertionError, match="No module named 'nowhere'"),
        serve("uvicorn", "nowhere", tmp_path / "log"),
    ):
        pytest.fail("it started")


def test_a_traceback_in_the_output_fails_unless_announced(tmp_path, database_of):
    env = database_of("sqlite").env
    with pytest.raises(AssertionError, match="Traceback"), serve("uvicorn", SETTINGS, tmp_path / "log", env) as server:
        assert server.request("POST", "/publish/unheard-of/", b"[]")[0] == 500
    with serve("uvicorn", SETTINGS, tmp_path / "log", env, tracebacks=True) as server:
        assert server.request("POST", "/publish/unheard-of/", b"[]")[0] == 500
        assert "Traceback" in server.log()


@pytest.mark.parametrize("name", ["daphne", "uvicorn", "wsgi"])
def test_a_server_is_gone_afterwards(name, tmp_path, database_of):
    with serve(name, SETTINGS, tmp_path / "log", database_of("sqlite").env) as server:
        assert psutil.pid_exists(server.pid)
    assert not psutil.pid_exists(server.pid)
