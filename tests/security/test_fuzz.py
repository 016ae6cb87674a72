"""A short run of the fuzz in every run of the tests; ``tests/security/fuzz.py`` says how to run a long one."""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_sse.models import Event, Head
from tests.security.fuzz import MINE, NUMBERS, OTHERS, Fuzzer, odd_ids, odd_names, odd_payloads
from tests.wire.strategies import CONTENTS, HOSTILE, TYPES

pytestmark = pytest.mark.usefixtures("committed")

NAMES = st.lists(st.sampled_from([*MINE, *OTHERS]) | HOSTILE, max_size=22)
IDS = st.none() | st.integers(-1, 5).map(str) | st.sampled_from(NUMBERS) | HOSTILE


def test_no_answer_forges_a_field_or_holds_anybody_elses_event() -> None:
    """One stream of chance, so that a fault can be had again by its seed."""

    async def run() -> None:
        seed = int(os.environ.get("FUZZ_SEED") or random.randrange(10**6))
        chance, fuzzer = random.Random(seed), Fuzzer()
        try:
            for channel in OTHERS:
                await fuzzer.publish(channel, text="canary of somebody else")
            for number in range(1500):
                if number % 50 == 0:
                    await fuzzer.publish(chance.choice(MINE), **odd_payloads(chance))
                last = odd_ids(chance, fuzzer.sent[-1].position)
                header, logged_in = chance.random() < 0.5, chance.random() < 0.5
                await fuzzer.ask(odd_names(chance), last, header=header, logged_in=logged_in)
        except BaseException as error:
            error.add_note(f"FUZZ_SEED={seed}")
            raise
        assert fuzzer.counts["events received"] > 50
        assert min(fuzzer.counts[f"answered {status}"] for status in (200, 400, 403)) > 50

    async_to_sync(run)()


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(names=NAMES, last=IDS, header=st.booleans(), logged_in=st.booleans(), event_type=TYPES, content=CONTENTS)
def test_whatever_is_asked_and_published(
    names: list[str], last: str | None, header: bool, logged_in: bool, event_type: str | None, content: dict[str, Any]
) -> None:
    async def run() -> None:

        await Event.objects.all().adelete()
        await Head.objects.all().adelete()
        fuzzer = Fuzzer()
        await fuzzer.publish("secret.a", text="canary of somebody else")
        await fuzzer.publish("public.a", event_type=event_type, **content)
        await fuzzer.ask(names, last, header=header, logged_in=logged_in)

    async_to_sync(run)()
