"""What one edge finds to have changed, all edges know: a stream in Redis or Valkey, read by one process of each.

A stream and not pub/sub, for a reader that was away goes on where it was. When it cannot (the engine lost its
data, or has thrown away what was not read yet) everything is stale. Told are what operators invalidate, and
environments of which a failing backend showed that they have changed; what the core API's own stream tells is
told by that.
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

KEPT = 10_000
"Entries of the stream, or a few more."
BLOCK = 5.0
"Seconds for which the engine holds a question for news."
SHORTEST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
WRITTEN_AT_ONCE = 1000
"Changes in one entry, and changes that wait to be written; beyond it, everything has changed."
READ_AT_ONCE = 200
"Entries in one answer of the engine."
LONGEST_ENTRY = 2 << 20
"Bytes of the changes in one entry, if all names are the longest ones. A longer one is not understood."
START = "0-0"

Work = Callable[["Redis", str], Awaitable[None]]

log = logging.getLogger("styx.shared")
_changes = msgspec.msgpack.Decoder(list[Change])


class RedisChanges:
    """Of one edge. `tell` gets what others found."""

    def __init__(
        self,
        tell: Callable[[list[Change]], None],
        rand: Callable[[], float],
        background: Background | None = None,
    ) -> None:
        self._tell = tell
        self._rand = rand
        self._me = secrets.token_hex(8)
        self._last = ""
        "Id of the last entry read; empty = none was yet."
        self._unsaid = PendingChanges(limit=WRITTEN_AT_ONCE)
        self._something = asyncio.Event()
        self._background = background or Background()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, settings: RedisSettings) -> None:
        """Read and write there from now on."""
        self._cancel()
        if settings.url is not None:
            self._tasks = [
                self._background.run(task, partial(self._again_and_again, settings, *ways))
                for task, ways in (
                    (BackgroundTask.SHARED_READER, (self._find_place, self._read)),
                    (BackgroundTask.SHARED_WRITER, (self._nothing, self._write)),
                )
            ]

    async def stop(self) -> None:
        """Neither any more."""
        tasks = self._cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    def _cancel(self) -> list[asyncio.Task[None]]:
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        return tasks

    def _is_wanted(self) -> bool:
        """Whether the task in hand is. The library swallows a cancellation that comes at a bad moment."""
        return asyncio.current_task() in self._tasks

    def publish(self, changes: list[Change]) -> None:
        """Tell the other edges, soon."""
        if self._tasks:
            self._unsaid.add(filter(_is_encodable, changes))
            self._something.set()

    async def _again_and_again(self, settings: RedisSettings, begin: Work, work: Work) -> None:
        """`begin` at each new connection, then `work` until it breaks."""
        key, pause, told = f"{settings.prefix}:changes", SHORTEST_PAUSE, False
        while self._is_wanted():
            try:
                async with connect(settings, time_limit=BLOCK + 5.0 * settings.timeout) as redis:
                    await begin(redis, key)
                    while self._is_wanted():
                        pause, told = SHORTEST_PAUSE, False
                        await work(redis, key)
            except Exception as error:  # whatever the library raises: routes are renewed by time
                if not told:
                    log.error(
                        "change stream of Redis lost",
                        extra={"code": "redis_changes_lost", "error": f"{type(error).__name__}: {error}"},
                    )
                told = True
            await asyncio.sleep(pause * (0.75 + self._rand() / 2))
            pause = min(2.0 * pause, LONGEST_PAUSE)

    async def _find_place(self, redis: "Redis", key: str) -> None:
        """Can it be read on from where it was?"""
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
            self._tell([EVERYTHING])

    async def _read(self, redis: "Redis", key: str) -> None:
        changes = PendingChanges()
        told: Any = await redis.xread({key: self._last}, count=READ_AT_ONCE, block=int(1000 * BLOCK))
        if not self._is_wanted():
            return
        for _, entries in told or ():
            for number, fields in entries:
                self._last = _text(number)
                if _text(fields.get(b"from", b"")) != self._me and not changes.overflows:
                    changes.add(_understood(fields.get(b"changes", b"")))
        if changes:
            self._tell(changes.take_all(0.0))

    async def _nothing(self, redis: "Redis", key: str) -> None:
        pass

    async def _write(self, redis: "Redis", key: str) -> None:
        now = asyncio.get_running_loop().time()
        due_at = self._unsaid.due_at(now)
        if due_at is None or due_at > now:
            self._something.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due_at):
                    await self._something.wait()
            return
        changes = self._unsaid.take_all(now)
        fields: Any = {"from": self._me, "changes": msgspec.msgpack.encode(changes)}
        try:
            await redis.xadd(key, fields, maxlen=KEPT, approximate=True)
        except BaseException:
            self._unsaid.add(changes)
            raise


def _understood(data: bytes) -> list[Change]:
    if len(data) > LONGEST_ENTRY:
        return [EVERYTHING]
    try:
        return [understood(change) for change in _changes.decode(data)]
    except msgspec.MsgspecError:  # of another version: it may mean anything
        return [EVERYTHING]


def _is_encodable(change: Change) -> bool:
    """One that is not would hold up all that are published after it."""
    try:
        msgspec.msgpack.encode(change)
    except (ValueError, OverflowError) as error:
        log.error("change not published", extra={"code": "change_not_encodable", "error": str(error)})
        return False
    return True


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _order(number: str) -> tuple[int, int]:
    """Ids of entries, as they follow each other."""
    milliseconds, _, count = number.partition("-")
    return int(milliseconds), int(count)
