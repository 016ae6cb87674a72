from __future__ import annotations

import asyncio
from inspect import iscoroutinefunction
from typing import Any

import hypothesis
import pytest
from asgiref.sync import async_to_sync

# Now, and not when its plugin first needs it: a module that pytest rewrites while the garbage collector runs
# somebody's destructor can crash Python 3.11 (python/cpython#106905).
assert hypothesis


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run ``async def`` tests as Django's own test case does: ``sync_to_async`` then comes back to this thread and
    its database connection. An asyncio plugin would run it in a thread whose connection no fixture knows."""
    if not iscoroutinefunction(pyfuncitem.obj):
        return None
    names: Any = pyfuncitem._fixtureinfo.argnames
    async_to_sync(_to_its_end)(pyfuncitem.obj, {name: pyfuncitem.funcargs[name] for name in names})
    return True


async def _to_its_end(test: Any, arguments: dict[str, Any]) -> None:
    """Run ``test``, and wait for questions that it left: the end of the loop would cancel them in the middle of giving
    their connections back, and the test's database could not be dropped."""
    try:
        await test(**arguments)
    finally:
        asking = [task for task in asyncio.all_tasks() if "_Asking.run" in repr(task.get_coro())]
        if asking:
            await asyncio.wait(asking, timeout=30)


@pytest.fixture
def committed(transactional_db: None) -> None:
    """The test commits what it writes: streams read in a thread and a connection of their own."""
