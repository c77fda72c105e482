"""Publishes changes of routes to all edges, over a stream in Redis or Valkey that one process of each edge reads.

A stream is used instead of pub/sub because a reader resumes it after an interruption. When it cannot (the engine
has lost its data, or has trimmed entries that were not read yet), everything becomes stale. Published are
invalidations by operators, and environments whose change was found by a lookup after a failure of a backend.
Changes from the core API's own stream are not published here, because each edge reads that stream.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from edge.net.background import Background
from edge.net.redis.redis_routes import connect
from edge.rules.background_tasks import BackgroundTask
from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING, understood
from edge.rules.routing.pending_changes import PendingChanges
from edge.rules.settings import RedisSettings

if TYPE_CHECKING:
    from redis.asyncio import Redis

STREAM_LENGTH = 10_000
"Entries that the stream keeps, or a few more."
BLOCK = 5.0
"Seconds for which the engine blocks a read while there are no new entries."
SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"Seconds between two attempts to connect: doubled after each failure, with 25 % jitter to both sides."
WRITTEN_AT_ONCE = 1000
"Changes in one entry, and changes that may wait to be written; beyond it, everything has changed."
READ_AT_ONCE = 200
"Entries in one response of the engine."
LONGEST_ENTRY = 2 << 20
"Bytes of the changes in one entry, if all names have the maximum length. A longer entry is not decoded."
START = "0-0"
"The id before the first entry of a stream."

Work = Callable[["Redis", str], Awaitable[None]]

log = logging.getLogger("styx.redis")
_changes = msgspec.msgpack.Decoder(list[Change])


class RedisChanges:
    """The reader and writer of one edge. `receive` gets the changes that other edges published."""

    def __init__(
        self,
        receive: Callable[[list[Change]], None],
        rand: Callable[[], float],
        background: Background | None = None,
    ) -> None:
        self._receive = receive
        self._rand = rand
        self._edge_id = secrets.token_hex(8)
        self._last = ""
        "The id of the last entry that was read; empty = none yet."
        self._unpublished = PendingChanges(limit=WRITTEN_AT_ONCE)
        self._wake = asyncio.Event()
        self._background = background or Background()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, settings: RedisSettings) -> None:
        """Read and write the stream of these settings from now on."""
        self._cancel()
        if settings.url is not None:
            self._tasks = [
                self._background.run(task, partial(self._keep_connected, settings, *steps))
                for task, steps in (
                    (BackgroundTask.SHARED_READER, (self._find_position, self._read)),
                    (BackgroundTask.SHARED_WRITER, (self._no_preparation, self._write)),
                )
            ]

    async def stop(self) -> None:
        """Cancel reading and writing, and wait for at most 1 s until both have ended."""
        tasks = self._cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def _cancel(self) -> list[asyncio.Task[None]]:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        return tasks

    def _is_wanted(self) -> bool:
        """Whether the running task was not cancelled. The library swallows a cancellation at some moments."""
        return asyncio.current_task() in self._tasks

    def publish(self, changes: list[Change]) -> None:
        """Write these changes to the stream soon, for the other edges."""
        if self._tasks:
            self._unpublished.add(filter(_is_encodable, changes))
            self._wake.set()

    async def _keep_connected(self, settings: RedisSettings, begin: Work, work: Work) -> None:
        """At each new connection, `begin` once and then `work` again and again, until the connection fails."""
        key, pause, logged = f"{settings.prefix}:changes", SHORTEST_PAUSE, False
        while self._is_wanted():
            try:
                async with connect(settings, time_limit=BLOCK + 5.0 * settings.timeout) as redis:
                    await begin(redis, key)
                    while self._is_wanted():
                        pause, logged = SHORTEST_PAUSE, False
                        await work(redis, key)
            except Exception as error:  # any error of the library: without the stream, routes are renewed by time
                if not logged:
                    log.error(
                        "change stream in Redis lost",
                        extra={"code": "redis_changes_lost", "error": f"{type(error).__name__}: {error}"},
                    )
                logged = True
            await asyncio.sleep(pause * (0.75 + self._rand() / 2))
            pause = min(2.0 * pause, LONGEST_PAUSE)

    async def _find_position(self, redis: "Redis", key: str) -> None:
        """Find the entry after which to read. If the last one is lost, everything becomes stale."""
        newest, first, is_cut = START, START, False
        if await redis.exists(key):
            info: Any = await redis.xinfo_stream(key)
            newest, length = _text(info["last-generated-id"]), int(info["length"])
            first = _text(info["first-entry"][0]) if info.get("first-entry") else newest
            is_cut = int(info.get("entries-added", length)) > length
        last = self._last
        lost = not last or _order(newest) < _order(last)
        if lost or (_order(first) > _order(last) and (last != START or is_cut)):
            self._last = newest
            self._receive([EVERYTHING])

    async def _read(self, redis: "Redis", key: str) -> None:
        changes = PendingChanges()
        response: Any = await redis.xread({key: self._last}, count=READ_AT_ONCE, block=int(1000 * BLOCK))
        if not self._is_wanted():
            return
        for _, entries in response or ():
            for entry_id, fields in entries:
                self._last = _text(entry_id)
                if _text(fields.get(b"from", b"")) != self._edge_id and not changes.overflows:
                    changes.add(_decoded(fields.get(b"changes", b"")))
        if changes:
            self._receive(changes.take_all(0.0))

    async def _no_preparation(self, redis: "Redis", key: str) -> None:
        pass

    async def _write(self, redis: "Redis", key: str) -> None:
        now = asyncio.get_running_loop().time()
        due_at = self._unpublished.due_at(now)
        if due_at is None or due_at > now:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due_at):
                    await self._wake.wait()
            return
        changes = self._unpublished.take_all(now)
        fields: Any = {"from": self._edge_id, "changes": msgspec.msgpack.encode(changes)}
        try:
            await redis.xadd(key, fields, maxlen=STREAM_LENGTH, approximate=True)
        except BaseException:
            self._unpublished.add(changes)
            raise


def _decoded(data: bytes) -> list[Change]:
    if len(data) > LONGEST_ENTRY:
        return [EVERYTHING]
    try:
        return [understood(change) for change in _changes.decode(data)]
    except msgspec.MsgspecError:  # from another version of styx: it may mean any change
        return [EVERYTHING]


def _is_encodable(change: Change) -> bool:
    """Whether this change can be encoded; one that cannot would block all that are published after it."""
    try:
        msgspec.msgpack.encode(change)
    except (ValueError, OverflowError) as error:
        log.error("change not published", extra={"code": "change_not_encodable", "error": str(error)})
        return False
    return True


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _order(entry_id: str) -> tuple[int, int]:
    """The sort key of an entry id, which is `milliseconds-count`."""
    milliseconds, _, count = entry_id.partition("-")
    return int(milliseconds), int(count)
