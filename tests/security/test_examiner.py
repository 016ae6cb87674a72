"""What asking again takes for itself, and gives back."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import SyncToAsync
from django.contrib.auth.models import AnonymousUser, User
from django.test import RequestFactory

from django_sse import examiner
from django_sse.examiner import Examiner
from django_sse.grant import Grant
from tests.security.waiting import until

if TYPE_CHECKING:
    from contextlib import ExitStack

pytestmark = pytest.mark.usefixtures("committed")


@pytest.fixture
def grant() -> Grant:
    """Of a user who is not there any more."""
    request = RequestFactory().get("/")
    request.user = AnonymousUser()
    grant = Grant(request, User(pk=7), by_session=False, position=0)
    assert grant.user == "7"
    return grant


async def test_the_connection_is_closed_also_when_what_was_found_ends_the_asking(
    grant: Grant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last stream of a process is told that its user is gone, and ends: that cancels whoever asks."""
    may_close, closed = threading.Event(), threading.Event()
    close = examiner._close

    def noted(opened: ExitStack) -> None:
        close(opened)
        closed.set()

    def tell(grant: Grant, reason: str) -> None:
        context: Any = SyncToAsync.thread_sensitive_context.get()
        SyncToAsync.context_to_thread_executor[context].submit(may_close.wait, 30)  # busy until it was cancelled
        asking.cancel()

    monkeypatch.setattr(examiner, "_close", noted)
    asking = asyncio.ensure_future(Examiner(deciding=False).examine([grant], tell))
    try:
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.sleep(0)  # the walk over the grants, which is a task of its own, hears of it
    finally:
        may_close.set()
    await until(closed.is_set)
