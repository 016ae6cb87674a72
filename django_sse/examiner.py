"""Asking again, for many streams, whether they may go on. What raises or hangs spoils its own stream's answer alone."""

from __future__ import annotations

import asyncio
import logging
from contextlib import ExitStack
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import InterfaceError, OperationalError, connections

from django_sse.recheck import DENIED, Who, denied, identify, of_session
from django_sse.unspoken import Unspoken

if TYPE_CHECKING:
    from asyncio import Task
    from collections.abc import Callable, Coroutine, Sequence

    from django_sse.grant import Grant

    Tell = Callable[[Grant, str], None]

__all__ = ["UNKNOWN", "Examiner", "Findings"]

logger = logging.getLogger(__name__)

UNKNOWN: Final = ""
"""Nobody could say: to be asked again soon."""

PATIENCE: Final = 5.0
"""Seconds after which a question that has no answer yet is left alone, and the next one asked."""
HANGING: Final = 8
"""Questions that may be left alone at a time: a thread that hangs cannot be ended."""


class Findings(NamedTuple):
    """For each grant why its stream must close, None where it may go on, or ``UNKNOWN``; and how many ``queries`` the
    deciders made."""

    reasons: list[str | None]
    queries: int


class Examiner:
    """Asks for grants what was asked when their streams were opened.

    ``deciding``: also the authoriser, or what stands in its place; else only session and user.
    """

    def __init__(self, *, deciding: bool) -> None:
        self.deciding = deciding
        self._hanging: dict[Task[None], Grant | None] = {}

    @property
    def hangs(self) -> bool:
        """Whether some question has been left alone and has no answer yet."""
        return bool(self._hanging)

    async def examine(self, grants: Sequence[Grant], tell: Tell | None = None) -> Findings:
        """Return what was found; ``tell`` of a session or user that has ended as soon as that is known.

        Sessions and users are read with one query each. All of it goes over one connection, which is given back at
        the end.

        What raises denies its own stream; what cannot reach its database, or takes longer than ``PATIENCE``, leaves
        its own ``UNKNOWN``. Raises ``TimeoutError`` and what the database raises where nothing could be found out.
        """
        reasons: dict[Grant, str | None] = {grant: UNKNOWN for grant in self._hanging.values() if grant}
        queries = 0
        while pending := [grant for grant in grants if grant not in reasons]:
            if len(self._hanging) >= HANGING:
                raise TimeoutError(f"{HANGING} earlier questions have no answer yet")
            asking = _Asking(pending, reasons, tell, deciding=self.deciding)
            await self._finish(asking)
            queries += asking.queries
        return Findings([reasons[grant] for grant in grants], queries)

    async def _finish(self, asking: _Asking) -> None:
        """Return when all of ``asking`` is done, or one question of it hangs."""
        # In a context of its own: ours is that of some stream's request, whose thread has ended.
        task = asyncio.get_running_loop().create_task(asking.run(), context=Context())
        try:
            while not task.done():
                before = asking.grant
                await asyncio.wait({task}, timeout=PATIENCE)
                if asking.grant is before and not task.done():
                    return self._leave(task, before, asking.reasons)
        except asyncio.CancelledError:
            task.cancel()
            raise
        return task.result()

    def _leave(self, task: Task[None], grant: Grant | None, reasons: dict[Grant, str | None]) -> None:
        self._hanging[task] = grant
        task.add_done_callback(self._ended)
        task.cancel()  # ends what is async; what is sync ends in its thread, and the task after it
        if grant is None:
            raise TimeoutError(f"sessions and users could not be read within {PATIENCE:g} s")
        logger.warning("A stream could not be asked again within %s s, the next try follows", PATIENCE)
        reasons[grant] = UNKNOWN

    def _ended(self, task: Task[None]) -> None:
        del self._hanging[task]
        if not task.cancelled():
            task.exception()


class _Asking:
    """One walk over some ``grants``, which leaves what it finds in ``reasons``."""

    def __init__(
        self, grants: Sequence[Grant], reasons: dict[Grant, str | None], tell: Tell | None, *, deciding: bool
    ) -> None:
        self.reasons = reasons
        self.grant: Grant | None = None
        """The one that is being asked about; None while sessions and users are read for all."""
        self._grants = grants
        self._tell = tell
        self._deciding = deciding
        self._count = _Count()
        self._shared = 0

    @property
    def queries(self) -> int:
        """Those made for one grant, not for all."""
        return self._count.queries - self._shared if self.grant else 0

    async def run(self) -> None:
        async with ThreadSensitiveContext():  # a thread of its own for what is sync, as a request has
            opened = await sync_to_async(self._count.begin)()
            try:
                found = await sync_to_async(identify)(self._grants)
                self._shared = self._count.queries
                for grant, who in zip(self._grants, found, strict=True):
                    if self._tell and isinstance(who, str):
                        self._tell(grant, who)
                for grant, who in zip(self._grants, found, strict=True):
                    self.grant = grant
                    self.reasons[grant] = await self._reason(grant, who)
            finally:
                await _to_its_end(sync_to_async(_close)(opened))

    async def _reason(self, grant: Grant, who: Who | str) -> str | None:
        if isinstance(who, str):
            return who
        try:
            if who.data:
                user = await sync_to_async(of_session)(who.data, who.user)
                if isinstance(user, str):
                    return user
                who = who._replace(user=user)
            ask = grant.ask if self._deciding else None
            return None if ask is None or await ask(grant.request(who.user, who.session)) else DENIED
        except (OperationalError, InterfaceError, TimeoutError) as error:
            logger.warning("A stream could not be asked again, the next try follows", exc_info=Unspoken(error))
            return UNKNOWN
        except Exception as error:
            return denied(error)


class _Count:
    """Counts the queries of the connections of this thread."""

    def __init__(self) -> None:
        self.queries = 0

    def begin(self) -> ExitStack:
        stack = ExitStack()
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(self._execute))
        return stack

    def _execute(self, execute: Callable[..., Any], *args: Any) -> Any:
        self.queries += 1
        return execute(*args)


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Do ``work`` also where this is cancelled meanwhile: the stream that we have closed may have been the last one,
    and who asks is cancelled with it. What has not begun in its thread by then would never be done."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _close(opened: ExitStack) -> None:
    opened.close()
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:  # a test's transaction
            connection.close()
