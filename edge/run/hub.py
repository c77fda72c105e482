"""The admin process's end of the control channel: it asks all workers at once, and does not wait for long.

Workers connect to a socket whose listening end the master holds: when the admin process dies, they come back to its
successor. What is drained is known here, and told to workers that come later.
"""

import asyncio
import hmac
import itertools
import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import msgspec

from edge import __version__
from edge.admin.crew import Answers, Drain, Granted, Told
from edge.rules.changes import EVERYTHING, Change
from edge.run.lifeline import ChildEnd
from edge.run.orders import (
    TOLD_AT_ONCE,
    AskExplain,
    AskRoutes,
    AskSnapshot,
    BadMessage,
    Changed,
    DrainOf,
    Found,
    FromWorker,
    Hello,
    Invalidate,
    Learned,
    Message,
    RenewTokens,
    Reply,
    Unpacker,
    Wish,
    packed,
)

ANSWER_DEADLINE = 1.0
"Seconds until a worker counts as silent."
WISH_DEADLINE = 120.0
"Seconds until the master counts as silent: a reload waits for new workers."
WAITING = 1 << 20
"Bytes that may wait for a worker which does not read; it is asked nothing more until it does."

RECENT_WAITING = 64 << 20
"The same for a worker that has just come."
RECENT = 50_000
"Records of routes that a worker is told when it comes: it has read the file, which may be some moments behind."

log = logging.getLogger("styx.hub")


class WorkerLine(asyncio.Protocol):
    """One worker's connection."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._unpacker = Unpacker(FromWorker)
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[Reply]] = {}
        self.hello: Hello | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None  # who is about to ask would write to it, which uvloop answers with RuntimeError
        self._hub.lines.discard(self)
        for future in self._waiting.values():
            future.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._unpacker.feed(data):
                self._heard(message)
        except BadMessage as error:
            log.warning("a worker does not speak as agreed: %s", error)
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, question: Message, number: int) -> Reply | None:
        """The answer, or None when there is none in time."""
        if self._transport is None or self._transport.get_write_buffer_size() > WAITING:
            return None
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._transport.write(packed(question))
        try:
            await asyncio.wait({future}, timeout=ANSWER_DEADLINE)
        finally:
            del self._waiting[number]
        return future.result() if future.done() and not future.cancelled() else None

    def tell(self, message: Message, most: int = WAITING) -> bool:
        """What needs no answer; nothing while so many bytes wait for the worker. Returns whether it was told."""
        if self._transport is None or self._transport.get_write_buffer_size() >= most:
            return False
        self._transport.write(packed(message))
        return True

    def _heard(self, message: Any) -> None:
        if isinstance(message, Reply):
            future = self._waiting.get(message.number)
            if future is not None and not future.done():
                future.set_result(message)
        elif isinstance(message, Learned) and self.hello is not None:
            self._hub.learned(self, message)
        elif isinstance(message, Changed) and self.hello is not None:
            self._hub.publish(message.changes)
        elif isinstance(message, Found) and self.hello is not None:
            self._hub.tell_others(self, message)
        elif isinstance(message, Hello) and self.hello is None and self._hub.lets_in(message):
            self.hello = message
            self._hub.joined(self)
        else:
            log.warning("somebody who is no worker of ours speaks on the control channel")
            self.close()


class Hub:
    """Implements `admin.crew.Crew`."""

    def __init__(self, master: ChildEnd, secret: bytes, keep: Callable[[list[bytes]], None]) -> None:
        self._keep = keep
        self._recent: deque[bytes] = deque(maxlen=RECENT)
        self._master = master
        self._secret = secret
        self.workers: dict[int, int] = {}
        "The process in each slot, as the master says. Others that are connected are about to leave."
        self._numbers = itertools.count(1)
        self._wishes: dict[int, asyncio.Future[Granted]] = {}
        self._drains: dict[tuple[str, str], float] = {}
        "Until when, on the monotonic clock."
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self.lines: set[WorkerLine] = set()
        self.publish: Callable[[list[Change]], None] = lambda changes: None
        "To the other edges."

    async def start(self, control: socket.socket) -> None:
        """Let the workers come."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: WorkerLine(self), sock=control)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for line in tuple(self.lines):
            line.close()

    # what the lines say

    def lets_in(self, hello: Hello) -> bool:
        return hmac.compare_digest(hello.secret, self._secret) and hello.version == __version__

    def joined(self, line: WorkerLine) -> None:
        """A worker is there: it learns what the others know."""
        self.lines.add(line)
        assert line.hello is not None
        for kind, name, seconds in line.hello.drains:  # an admin process before us told it
            self._drains.setdefault((kind, name), time.monotonic() + seconds)
        recent = list(self._recent)
        for at in range(0, len(recent), TOLD_AT_ONCE):
            line.tell(Learned(recent[at : at + TOLD_AT_ONCE]), most=RECENT_WAITING)
        line.tell(Changed([EVERYTHING]), most=2 * RECENT_WAITING)  # what was told before it came
        for drain in self.drains():
            number = next(self._numbers)
            question = DrainOf(number, drain.kind, drain.name, drain.seconds)
            task = asyncio.get_running_loop().create_task(line.ask(question, number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def learned(self, teller: WorkerLine, message: Learned) -> None:
        """A worker was told routes: the others need not ask, and the next ones will know."""
        self._recent.extend(message.records)
        self.tell_others(teller, message)
        self._keep(message.records)

    def tell_others(self, teller: WorkerLine, message: Message) -> None:
        """All workers but the one that says it."""
        for line in self.lines:
            if line is not teller:
                line.tell(message)

    def changed(self, changes: list[Change]) -> None:
        """The platform says so. A worker that cannot be told comes back, and is told that it missed some."""
        for line in tuple(self.lines):
            for at in range(0, len(changes), TOLD_AT_ONCE):
                if not line.tell(Changed(changes[at : at + TOLD_AT_ONCE])):
                    line.close()
                    break

    # Crew

    async def snapshots(self) -> Answers:
        return await self._ask(AskSnapshot)

    async def explain(self, host: str) -> Answers:
        return await self._ask(lambda number: AskExplain(number, host), all_of_them=False)

    async def routes(self, start: int, most: int, site: str, freshness: str) -> Answers:
        return await self._ask(lambda number: AskRoutes(number, start, most, site, freshness), all_of_them=False)

    async def invalidate(self, kind: str, name: str) -> Answers:
        self.publish([Change(kind, name)])
        return await self._ask(lambda number: Invalidate(number, kind, name))

    async def drain(self, drain: Drain) -> Answers:
        key = (drain.kind, drain.name)
        if drain.seconds:
            self._drains[key] = time.monotonic() + drain.seconds
        else:
            self._drains.pop(key, None)
        return await self._ask(lambda number: DrainOf(number, drain.kind, drain.name, drain.seconds))

    def drains(self) -> list[Drain]:
        now = time.monotonic()
        self._drains = {key: until for key, until in self._drains.items() if until > now}
        return [Drain(kind, name, until - now) for (kind, name), until in self._drains.items()]

    async def wish(self, what: str) -> Granted:
        number = next(self._numbers)
        future: asyncio.Future[Granted] = asyncio.get_running_loop().create_future()
        self._wishes[number] = future
        self._master.tell(Wish(number, what))
        try:
            async with asyncio.timeout(WISH_DEADLINE):
                return await future
        except TimeoutError:
            return Granted(False, [f"the master did not answer within {WISH_DEADLINE:g} s"])
        finally:
            del self._wishes[number]

    def granted(self, number: int, granted: Granted) -> None:
        """The master's answer to a wish."""
        future = self._wishes.get(number)
        if future is not None and not future.done():
            future.set_result(granted)

    async def renew_tokens(self) -> None:
        """The file of the core API's token has changed."""
        await self._ask(RenewTokens)

    async def _ask(self, question: Callable[[int], Message], *, all_of_them: bool = True) -> Answers:
        """Ask those in the slots, and those about to leave as well."""
        current = set(self.workers.values())
        asked = [
            (line.hello, next(self._numbers), line)
            for line in self.lines
            if line.hello is not None and (all_of_them or line.hello.pid in current)
        ]
        replies = await asyncio.gather(*(line.ask(question(number), number) for _, number, line in asked))
        told = [
            Told(hello.slot, hello.pid, msgspec.Raw(reply.body or b"null"), reply.why, hello.pid not in current)
            for (hello, _, _), reply in zip(asked, replies, strict=True)
            if reply is not None
        ]
        heard = {answer.pid for answer in told}
        silent = [slot for slot, pid in self.workers.items() if pid not in heard]
        return Answers(sorted(told, key=lambda answer: (answer.worker, answer.pid)), sorted(silent))
