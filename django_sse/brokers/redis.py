"""A broker over Redis, by the cache alias of django-redis.

``{"BACKEND": "django_sse.brokers.redis.RedisBroker", "OPTIONS": {"ALIAS": "default"}}``. Several sites on one Redis
are kept apart by the alias's ``KEY_PREFIX``.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from redis.backoff import NoBackoff
from redis.retry import Retry

from django_sse.brokers.network import PING_AFTER, PING_DEADLINE, NetworkBroker

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from redis import Redis

__all__ = ["RedisBroker"]

TIMEOUT: Final = 2.0
"""Seconds to connect, and for an answer: a server that accepts and never answers must not hold the ringer."""


class RedisBroker(NetworkBroker):
    """PUBLISH and SUBSCRIBE with the connection settings of the cache ``ALIAS``: URL, password, TLS, Sentinel.

    django-redis makes the connections, so the listener is its synchronous client in a thread, one per process.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        super().__init__(options)
        alias = options.get("ALIAS", "default")
        try:
            cache: Any = caches[alias]
            self._factory = cache.client.connection_factory
            self._url = cache.client._server[0]
        except Exception as error:
            raise ImproperlyConfigured(
                f"RedisBroker: the cache {alias!r} is not one of django-redis ({error!r}). Set CACHES[{alias!r}] to "
                '{"BACKEND": "django_redis.cache.RedisCache", "LOCATION": "redis://…"}, or name another alias in '
                'OPTIONS["ALIAS"].'
            ) from error
        self._channel = f"django_sse:{cache.key_prefix}"
        self._client: Redis | None = None

    def _publish(self, message: str) -> None:
        if self._client is None:
            self._client = self._connect()
        self._client.publish(self._channel, message)

    def _connect(self) -> Redis:
        pool = self._factory.get_connection_pool(self._factory.make_connection_params(self._url))
        # In the pool, where they win over CONNECTION_POOL_KWARGS that suit a cache.
        pool.connection_kwargs |= {
            "socket_timeout": TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "retry": Retry(NoBackoff(), 0),  # whoever calls tries again in its own time
            "decode_responses": False,
        }
        client: Redis = self._factory.redis_client_cls(connection_pool=pool)
        return client

    async def _messages(self) -> AsyncGenerator[str, None]:
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, thread_name_prefix="django_sse redis")
        client: Any = self._connect()
        pubsub = client.pubsub()

        async def call(function: Callable[..., Any], *args: Any) -> Any:
            return await loop.run_in_executor(thread, lambda: function(*args))

        try:
            await call(pubsub.subscribe, self._channel)
            while True:
                message = await call(lambda: pubsub.get_message(timeout=PING_AFTER))
                if message is None:
                    await call(pubsub.ping)
                    message = await call(lambda: pubsub.get_message(timeout=PING_DEADLINE))
                    if message is None:
                        raise TimeoutError(f"Redis did not answer a ping within {PING_DEADLINE} s.")
                if message["type"] == "subscribe":
                    yield ""
                elif message["type"] == "message":
                    yield message["data"].decode()
        finally:
            # Closing the socket under the thread wakes it from its wait.
            client.connection_pool.disconnect()
            thread.submit(pubsub.close)
            thread.shutdown(wait=False)
