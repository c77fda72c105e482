"""Shares routes between edges in Redis or Valkey, so that a cold edge needs fewer lookups at the core API.

The edge also works without it. No lookup waits for it longer than `redis.timeout`, and after a few failures in a
row it is not used for a while. A route from it is treated like one from another worker: it never replaces a newer
one, and is stale if it may have changed since. The values are the records that workers exchange
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
"Failures in a row after which Redis is not used for a while."
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
"Seconds for which it is not used: doubled after each further failure."
WAITING = 10_000
"Records that may wait to be written; older ones are dropped."
AT_ONCE = 500
"Records written in one pipeline."
CONNECTIONS = 16
"Connections of one worker to Redis."
LONGEST_EXPIRY = 30 * 86400
"Seconds after which Redis removes a record at the latest."

log = logging.getLogger("styx.redis")


def connect(settings: RedisSettings, *, time_limit: float) -> "Redis":
    """A client of the engine; `time_limit`: seconds for a response.

    Raises ImportError without the `redis` extra, and SecretFileError for a password that cannot be read.
    """
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
    """The shared routes, as one worker reads and writes them.

    At most `most_waiting` records wait to be written; `at_once` are written in one pipeline.
    """

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
        self._failures_in_a_row = 0
        self._pause = SHORTEST_PAUSE
        self._until = 0.0
        "The time until which Redis is not used, on `clock`."
        self.found = self.missed = self.failures = 0

    def key(self, hostname: str) -> str:
        """The key of the record of this hostname."""
        return f"{self._settings.prefix}:route:{hostname}"

    async def get(self, hostname: str) -> Record | None:
        """The record that an edge has written for this hostname, or None.

        Takes at most `redis.timeout`. Never raises.
        """
        if self._clock() < self._until:
            return None
        try:
            async with FairTimeout(self._settings.timeout):
                data: Any = await self._redis.get(self.key(hostname))
        except Exception as error:  # any error of the library: the core API is asked instead
            self._record_failure(error)
            return None
        self._record_success()
        if data is None:
            self.missed += 1
            return None
        try:
            [record] = records(data)
        except (Damaged, ValueError) as error:
            log.error(
                "route in Redis damaged",
                extra={"code": "redis_record_damaged", "hostname": hostname, "error": str(error)},
            )
            return None
        if record.hostname != hostname:
            return None
        self.found += 1
        return record

    def put(self, record: Record, gone: float) -> None:
        """Write a record soon. `gone`: when the route is no longer usable, in seconds since the epoch."""
        if self._clock() < self._until:
            return
        self._waiting.append((self.key(record.hostname), record, gone))
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write(), name="write shared routes")

    async def _write(self) -> None:
        try:
            while self._waiting:
                await self._write_batch()
        finally:
            self._writing = None

    async def _write_batch(self) -> None:
        """Write one batch of records. Never raises."""
        batch = [self._waiting.popleft() for _ in range(min(self._at_once, len(self._waiting)))]
        try:
            pipe = self._redis.pipeline(transaction=False)
            for key, record, gone in batch:
                seconds = ceil(min(gone - self._wall(), LONGEST_EXPIRY))
                if seconds > 0:
                    pipe.set(key, record.data, ex=seconds)
            async with FairTimeout(10 * self._settings.timeout):
                await pipe.execute()
            self._record_success()
        except Exception as error:  # any error of the library: other edges ask the core API
            self._record_failure(error)
            self._waiting.clear()

    def _record_success(self) -> None:
        if self._failures_in_a_row >= FAILURES:
            log.warning("routes in Redis usable again", extra={"code": "redis_routes_usable"})
        self._failures_in_a_row, self._pause = 0, SHORTEST_PAUSE

    def _record_failure(self, error: Exception) -> None:
        self._failures_in_a_row += 1
        self.failures += 1
        if self._failures_in_a_row < FAILURES:
            return
        if self._failures_in_a_row == FAILURES:
            log.error(
                "routes in Redis not usable",
                extra={"code": "redis_routes_unusable", "error": f"{type(error).__name__}: {error}"},
            )
        self._until = self._clock() + self._pause
        self._pause = min(2.0 * self._pause, LONGEST_PAUSE)

    async def close(self) -> None:
        """Cancel the writing, and close the connections."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait([self._writing], timeout=1.0)
        with suppress(Exception):
            await self._redis.aclose()
