"""Brokers that are down at the start, for long, or again and again; under pressure; behind a pool."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.backing import Pgbouncer, directory
from tests.faults.conftest import POLL
from tests.faults.ledger import late, median, percentile
from tests.faults.publisher import publisher
from tests.proxy import proxy_to
from tests.server import wait_for

if TYPE_CHECKING:
    from tests.proxy import Proxy

CHANNELS = ["public.a", "public.b"]
REDIS = {"BACKEND": "django_sse.brokers.redis.RedisBroker", "OPTIONS": {"ALIAS": "redis"}}
POSTGRES = {"BACKEND": "django_sse.brokers.postgres.PostgresBroker", "OPTIONS": {"ALIAS": "direct"}}
BROKERS = {
    "redis": REDIS,
    "postgres": POSTGRES,
    "channel layer": {"BACKEND": "django_sse.brokers.channel_layer.ChannelLayerBroker"},
}
SETTINGS = "tests.faults.settings"
ENOUGH = 21
"""Publications in an outage that tell how long they take."""
SLOW_POLL = 60
"""Seconds; where a test must not mistake the poll for the doorbell."""


def took(publications: Any) -> list[float]:
    return [(one.ended - one.begun) / 1e9 for one in publications if one.ended]


def test_down_at_the_start(database, redis_server, start, book, browsers, figures, tmp_path):
    """The site comes up without it and events come by the poll; when it appears it is used."""
    redis_server.stop()
    env = redis_server.env
    publishing_env = {**database.env, **env, "LIVE_SSE": json.dumps({"BROKER": REDIS})}
    begun = time.monotonic()
    with start("uvicorn", database, env=env, BROKER=REDIS, POLL_INTERVAL=POLL) as server:
        started = time.monotonic() - begun
        crowd = browsers([server.port], 20, CHANNELS)
        with publisher(publishing_env, tmp_path / "without", CHANNELS, rate=20, count=60) as without:
            without.finish()
        book.add(without)
        crowd.reach(book.say_goodbye(server, CHANNELS, database))
        by_poll = late(without.publications, crowd.logs)
        redis_server.start()
        back_at = time.monotonic()
        with publisher(publishing_env, tmp_path / "with", CHANNELS, rate=10) as with_it:

            def fast() -> bool:
                newest = late(with_it.take()[-12:-2], crowd.logs)
                return len(newest) > 100 and percentile(newest, 0.9) < POLL / 5

            wait_for(fast, "the doorbell is heard", 60)
            back = time.monotonic() - back_at
            with_it.stop()
        book.add(with_it)
        crowd.reach(book.say_goodbye(server, CHANNELS, database))
        verdict = book.verdict(database, crowd)
    assert percentile(by_poll, 0.99) < POLL + 5
    figures(
        **{"start s": started, "latency by poll p50 s": median(by_poll), "by poll p99 s": percentile(by_poll, 0.99)},
        **{"picked up after s": back},
        **verdict,
    )


class Site:
    """A web process, a publisher and its readers, whose broker is reached through a proxy alone."""

    def __init__(self, name: str, stack: ExitStack, proxy: Proxy, env: dict[str, str], broker: Any, given: Any) -> None:
        self.name = name
        self.proxy = proxy
        self.database, start, browsers, self.book, place = given
        sse = {"BROKER": broker, "POLL_INTERVAL": SLOW_POLL}
        # A task of channels_redis's own that loses its connection is nobody's, and says so with a traceback.
        tracebacks = name == "channel layer"
        self.server = stack.enter_context(start("uvicorn", self.database, env=env, tracebacks=tracebacks, **sse))
        self.crowd = browsers([self.server.port], 10, CHANNELS)
        self.browsers = browsers
        env = {**self.database.env, "LIVE_SSE": json.dumps(sse), **env}
        made = publisher(env, place / name, CHANNELS, rate=10, settings=SETTINGS)
        self.publishing = stack.enter_context(made)
        self.book.add(self.publishing)
        self.figures: dict[str, object] = {}

    def so_far(self) -> int:
        return len([one for one in self.publishing.take() if one.ended])

    def live_again(self, limit: float) -> float:
        """Return the seconds until an event that begins now, or later, reaches all who are open and one who is new."""
        begun = time.monotonic()
        tick = time.monotonic_ns()
        new = self.browsers([self.server.port], 1, CHANNELS)
        readers = [*self.crowd.browsers, *new.browsers]

        def heard() -> bool:
            texts = {one.uuid for one in self.publishing.take() if one.begun > tick}
            return all(texts & one.arrived for one in readers)

        wait_for(heard, f"{self.name} is live again", limit + SLOW_POLL)
        return time.monotonic() - begun


@pytest.fixture
def sites(postgresql, redis_server, start, browsers, tmp_path):
    """A site on each broker, behind a proxy of its own: they have their outages at the same time."""
    from tests.faults.ledger import Ledger

    with ExitStack() as stack:
        made = []
        for name, broker in BROKERS.items():
            proxy = stack.enter_context(
                proxy_to("127.0.0.1", postgresql.port if name == "postgres" else redis_server.port)
            )
            if name == "postgres":
                env = {"FAULTS_DIRECT_PORT": str(proxy.port)}
            else:
                env = {"REDIS_URL": f"redis://127.0.0.1:{proxy.port}/0"}
            given = (postgresql.make_database(), start, browsers, Ledger(), tmp_path)
            env |= {"DJANGO_SETTINGS_MODULE": SETTINGS}
            made.append(Site(name, stack, proxy, env, broker, given))
        yield made


def conclude(sites: list[Site], before: dict[str, int], during: dict[str, int], figures: Any) -> None:
    """Judge what came, and how long publishing took before the outage and in it."""
    for site in sites:
        site.publishing.stop()
        site.crowd.reach(site.book.say_goodbye(site.server, CHANNELS, site.database))
        site.figures |= site.book.verdict(site.database, site.crowd)
    for site in sites:
        done = [one for one in site.publishing.publications if one.ended]
        normal = took(done[10 : before[site.name]])
        faulty = took(done[before[site.name] : during[site.name]])
        assert len(faulty) >= ENOUGH
        assert median(faulty) < median(normal) + 0.1
        site.figures |= {
            "publish p50 s normal": median(normal),
            "publish p50 s in the outage": median(faulty),
            "publish p99 s in the outage": percentile(faulty, 0.99),
        }
        figures(**{f"{site.name}: {name}": value for name, value in site.figures.items()})


@pytest.mark.long
@pytest.mark.parametrize(("fault", "seconds"), [("refuse", 1), ("slow", 20), ("go_silent", 3), ("go_silent", 130)])
def test_an_outage(sites, figures, fault, seconds):
    """Publishers do not notice; ten seconds after the return at the latest events come by the doorbell again."""
    for site in sites:
        site.publishing.has_published(50)
        site.live_again(10)
    before = {site.name: site.so_far() for site in sites}
    for site in sites:
        getattr(site.proxy, fault)()
    time.sleep(seconds)
    for site in sites:
        site.publishing.has_published(before[site.name] + ENOUGH)
    during = {site.name: site.so_far() for site in sites}
    for site in sites:
        if fault == "go_silent":
            site.proxy.cut()  # what a network does with connections that were silent for so long
        site.proxy.accept()
    for site in sites:
        back = site.live_again(10)
        assert back < 15
        site.figures |= {"outage s": seconds, "live again s": back}
    conclude(sites, before, during, figures)


@pytest.mark.long
def test_sixty_flaps(sites, figures):
    flaps = 60
    for site in sites:
        site.publishing.has_published(50)
        site.live_again(10)
    before = {site.name: site.so_far() for site in sites}
    for _ in range(flaps):
        for site in sites:
            site.proxy.refuse()
        time.sleep(0.5)
        for site in sites:
            site.proxy.accept()
        time.sleep(0.5)
    during = {site.name: site.so_far() for site in sites}
    for site in sites:
        back = site.live_again(10)
        assert back < 15
        site.figures |= {"flaps of 1 s": flaps, "live again s": back}
    conclude(sites, before, during, figures)


@pytest.mark.long
@pytest.mark.loud
def test_many_publishers_at_once(database, start, book, browsers, figures, tmp_path):
    """Transactions that NOTIFY commit one after the other. Ours do not: the ringer tells what many did."""
    processes, threads, seconds = 8, 25, 5.0
    rates = {}
    with ExitStack() as stack:
        sse = {"BROKER": {**POSTGRES, "OPTIONS": {}}}
        server = stack.enter_context(start("uvicorn", database, env={"PGAPPNAME": "web"}, **sse))
        crowd = browsers([server.port], 5, CHANNELS)
        for name, broker in (("without NOTIFY", {}), ("with NOTIFY", sse)):
            env = {**database.env, "LIVE_SSE": json.dumps(broker), "PGAPPNAME": "publishing"}
            made = [
                stack.enter_context(publisher(env, tmp_path / f"{name}-{number}", CHANNELS, threads=threads))
                for number in range(processes)
            ]
            for one in made:
                one.has_published(threads)
            begun = time.monotonic_ns()
            time.sleep(seconds)
            ended = time.monotonic_ns()
            for one in made:  # all at once: those that go on would hold up those that are to end
                one.process.terminate()
            for one in made:
                one.stop()
            book.add(*made)
            rates[name] = sum(begun < event.ended <= ended for one in made for event in one.publications) / seconds
        crowd.reach(book.say_goodbye(server, CHANNELS, database))
        states = database.query("SELECT state FROM pg_stat_activity WHERE query LIKE 'LISTEN%' OR query = 'SELECT 1'")
        assert not [state for (state,) in states if state and "transaction" in state], "the listener holds the queue"
        ((usage,),) = database.query("SELECT pg_notification_queue_usage()")
        assert usage < 0.01
        verdict = book.verdict(database, crowd)
    figures(
        publishers=processes * threads,
        **{f"publications/s {name}": rate for name, rate in rates.items()},
        queue=usage,
        **verdict,
    )


def test_listening_through_a_pool_in_transaction_mode(database, start, book, browsers, figures):
    """LISTEN goes to a session that is taken away at once, so nobody is told: the poll serves."""
    with directory() as place:
        pool = Pgbouncer(place, database)
        pool.start()
        try:
            broker = {**POSTGRES, "OPTIONS": {}}
            with (
                start("uvicorn", database, env=pool.env, BROKER=broker, POLL_INTERVAL=POLL) as web,
                start("uvicorn", database, env=pool.env, BROKER=broker, POLL_INTERVAL=POLL) as other,
            ):
                crowd = browsers([web.port], 20, CHANNELS)
                for _ in range(20):
                    book.post(other, "atomic", CHANNELS)
                    time.sleep(0.1)
                crowd.reach(book.say_goodbye(other, CHANNELS, database))
                lateness = late(book.publications, crowd.logs)
                verdict = book.verdict(database, crowd)
        finally:
            pool.stop()
    assert percentile(lateness, 0.99) < POLL + 5
    figures(**{"latency p50 s": median(lateness), "latency p99 s": percentile(lateness, 0.99)}, **verdict)
