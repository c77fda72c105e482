"""Routes that many edges share, in Redis or Valkey: what one was told, a cold one need not ask the core API.

It is a help and no condition. Nothing waits for it longer than `redis.timeout`; after a few failures in a row it
is left alone for a while; and what it says is used as what another worker says: never older than what is known
here, and stale if it may have changed since. Written are the records that workers tell each other
(`rules/routing/route_records.py`).
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import ceil
from typing import TYPE_CHECKING, Any

from edge.net.fair_timeout import FairTimeout
from edge.net.secret_files import read_secret
from edge.rules.routing.route_records import Damaged, Record, records
from edge.rules.settings import RedisSettings

if TYPE_CHECKING:
    from redis.asyncio import Redis

FAILURES = 3
"In a row, after which it is left alone."
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
WAITING = 10_000
"Records that wait to be written; older ones are dropped."
AT_ONCE = 500
CONNECTIONS = 16
LONGEST_KEPT = 30 * 86400
"Seconds."

log = logging.getLogger("styx.shared")


def connect(settings: RedisSettings, *, time_limit: float) -> "Redis":
    """A client of the engine. Raises ImportError without the `redis` extra, SecretFileError for a password
    that cannot be read."""
    from redis.asyncio import Redis

    assert settings.url is not None
    return Redis.from_url(
        settings.url,
        password=read_secret(settings.password_file) or None,
        socket_timeout=time_limit,
        socket_connect_timeout=settings.timeout,
        max_connections=CONNECTIONS,
        retry_on_timeout=False,
    )


class RedisRoutes:
    """One worker's. At most `most_waiting` records wait to be written, `at_once` are written together."""

    def __init__(
        self,
        settings: RedisSettings,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
        most_waiting: int = WAITING,
        at_once: int = AT_ONCE,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._wall = wall
        self._redis = connect(settings, time_limit=settings.timeout)
        self._waiting: deque[tuple[str, Record, float]] = deque(maxlen=most_waiting)
        self._at_once = at_once
        self._writing: asyncio.Task[None] | None = None
        self._failed = 0
        self._pause = SHORTEST_PAUSE
        self._until = 0.0
        "It is left alone until then."
        self.found = self.missed = self.failures = 0

    def key(self, hostname: str) -> str:
        """Where its record is."""
        return f"{self._settings.prefix}:route:{hostname}"

    async def get(self, hostname: str) -> Record | None:
        """What another edge was told, if there is time to say it. Never raises."""
        if self._clock() < self._until:
            return None
        try:
            async with FairTimeout(self._settings.timeout):
                data: Any = await self._redis.get(self.key(hostname))
        except Exception as error:  # whatever the library raises: the core API will be asked
            self._fails(error)
            return None
        self._works()
        if data is None:
            self.missed += 1
            return None
        try:
            [record] = records(data)
        except (Damaged, ValueError) as error:
            log.error(
                "damaged record in Redis",
                extra={"code": "redis_record_damaged", "hostname": hostname, "error": str(error)},
            )
            return None
        if record.hostname != hostname:
            return None
        self.found += 1
        return record

    def put(self, record: Record, gone: float) -> None:
        """Soon; `gone`: when it is worth nothing any more, seconds since the epoch."""
        if self._clock() < self._until:
            return
        self._waiting.append((self.key(record.hostname), record, gone))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="write shared routes")

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._write_some()
        finally:
            self._writing = None

    async def _write_some(self) -> None:
        """Never raises."""
        some = [self._waiting.popleft() for _ in range(min(self._at_once, len(self._waiting)))]
        try:
            pipe = self._redis.pipeline(transaction=False)
            for key, record, gone in some:
                seconds = ceil(min(gone - self._wall(), LONGEST_KEPT))
                if seconds > 0:
                    pipe.set(key, record.data, ex=seconds)
            async with FairTimeout(10 * self._settings.timeout):
                await pipe.execute()
            self._works()
        except Exception as error:  # as above: others will have to ask
            self._fails(error)
            self._waiting.clear()

    def _works(self) -> None:
        if self._failed >= FAILURES:
            log.warning("routes in Redis usable again", extra={"code": "redis_routes_usable"})
        self._failed, self._pause = 0, SHORTEST_PAUSE

    def _fails(self, error: Exception) -> None:
        self._failed += 1
        self.failures += 1
        if self._failed < FAILURES:
            return
        if self._failed == FAILURES:
            log.error(
                "routes in Redis not usable",
                extra={"code": "redis_routes_unusable", "error": f"{type(error).__name__}: {error}"},
            )
        self._until = self._clock() + self._pause
        self._pause = min(2.0 * self._pause, LONGEST_PAUSE)

    async def close(self) -> None:
        """Write no more."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing], timeout=1.0)
        with suppress(Exception):
            await self._redis.aclose()
