"""The admin process's end of the control channel: it asks all workers at once, and does not wait for long.

Workers connect to a socket whose listening end the master holds: when the admin process dies, they come back to its
successor. What is drained is known here, and told to workers that come later.
"""

import asyncio
import hmac
import itertools
import os
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec

from edge import __version__
from edge.admin.admin_messages import Answers, CommandResult, OperatorDrain, WorkerReply
from edge.rules.background_tasks import BackgroundTask
from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING, KINDS
from edge.rules.routing.route_records import whole
from edge.run.control.change_batches import ChangeBatches
from edge.run.control.channel import ChildEnd
from edge.run.control.control_listener import ControlListener
from edge.run.control.control_messages import (
    TOLD_AT_ONCE,
    AskExplain,
    AskRoutes,
    AskSnapshot,
    Changed,
    Command,
    DrainOf,
    FromReceiver,
    Hello,
    Invalidate,
    Message,
    RenewTokens,
    RoutesLearned,
)
from edge.run.control.peer_credentials import Credentials
from edge.run.control.worker_link import WorkerLine
from edge.run.routes.recent_records import RecentRecords
from edge.run.routes.route_set_publisher import RoutesPublisher

WISH_DEADLINE = 120.0
"Seconds until the master counts as silent: a reload waits for new workers."
HELLO_DEADLINE = 5.0
"Seconds that a worker has to say who it is."
MOST_ARRIVING, MOST_LINES = 64, 1024
"Connections that have not said so yet, and connections of workers."
RECENT_WAITING = 64 << 20
"Bytes that may wait for a worker that has just come."


class ControlServer:
    """Implements `admin.control_api.ControlApi`."""

    def __init__(
        self,
        master: ChildEnd,
        secret: bytes,
        keep: Callable[[list[bytes]], None],
        *,
        count_failure: Callable[[BackgroundTask], None] = lambda task: None,
        count_refused: Callable[[int], None] = lambda count: None,
        hello_deadline: float = HELLO_DEADLINE,
    ) -> None:
        self._keep = keep
        self._recent = RecentRecords()
        self._master = master
        self._secret = secret
        self.workers: dict[int, int] = {}
        "The process in each slot, as the master says. Others that are connected are about to leave."
        self._numbers = itertools.count(1)
        self._wishes: dict[int, asyncio.Future[CommandResult]] = {}
        self._drains: dict[tuple[str, str], float] = {}
        "Until when, on the monotonic clock."
        self._listener: ControlListener | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._arriving: set[WorkerLine] = set()
        "Those that have not said hello."
        self.lines: set[WorkerLine] = set()
        self.routes_pushed = RoutesPublisher(self.lines)
        self.publish: Callable[[list[Change]], None] = lambda changes: None
        "To the other edges."
        self._count_failure, self._count_refused = count_failure, count_refused
        self._hello_deadline = hello_deadline
        self._batches = ChangeBatches(self._tell_changes)

    async def start(self, control: socket.socket) -> None:
        """Let the workers come: children of the process whose child we are, of the user that we are."""
        self._listener = ControlListener(
            control,
            user=os.geteuid(),
            master=os.getppid(),
            is_full=lambda: len(self._arriving) >= MOST_ARRIVING or len(self.lines) >= MOST_LINES,
            welcome=self._welcome,
            refused=self._count_refused,
        )
        self._listener.start()

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.stop()
        self._batches.stop()
        for line in (*self.lines, *self._arriving):
            line.close()

    async def _welcome(self, sock: socket.socket, peer: Credentials) -> None:
        line = WorkerLine(self, peer, self._hello_deadline)
        self._arriving.add(line)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: line, sock)
        except BaseException:
            self.left(line)
            line.close()
            sock.close()
            raise

    # what the lines say

    def lets_in(self, hello: Hello, peer: Credentials) -> bool:
        return (
            hmac.compare_digest(hello.secret, self._secret)
            and hello.version == __version__
            and hello.pid == peer.pid
        )

    def joined(self, line: WorkerLine) -> None:
        """A worker is there: it learns what the others know."""
        self._arriving.discard(line)
        self.lines.add(line)
        self.routes_pushed.joined(line)
        for batch in self._recent.batches():
            line.tell(RoutesLearned(batch), most=RECENT_WAITING)
        line.tell(Changed([EVERYTHING]), most=2 * RECENT_WAITING)  # what was told before it came
        for drain in self.drains():
            number = next(self._numbers)
            question = DrainOf(number, drain.kind, drain.name, drain.seconds)
            task = asyncio.get_running_loop().create_task(line.ask(question, number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def left(self, line: WorkerLine) -> None:
        """Its connection is lost."""
        self._arriving.discard(line)
        self.lines.discard(line)
        self.routes_pushed.left(line)

    def routes_message(self, line: WorkerLine, message: FromReceiver) -> None:
        """A worker says what it wants, or has, of the routes that are pushed."""
        self.routes_pushed.heard(line, message)

    def drained(self, drains: list[tuple[str, str, float]]) -> None:
        """A worker drains these: an admin process before us told it."""
        for kind, name, seconds in drains:
            self._drains.setdefault((kind, name), time.monotonic() + seconds)

    def failed(self) -> None:
        """A message from a worker could not be dealt with."""
        self._count_failure(BackgroundTask.CONTROL_CHANNEL)

    def learned(self, teller: WorkerLine, message: RoutesLearned) -> None:
        """A worker was told routes: the others need not ask, and the next ones will know."""
        good = whole(message.records)
        self._recent.add(good)
        self.tell_others(teller, RoutesLearned(good))
        self._keep(good)

    def tell_others(self, teller: WorkerLine, message: Message) -> None:
        """All workers but the one that says it."""
        for line in self.lines:
            if line is not teller:
                line.tell(message)

    def changed(self, changes: list[Change]) -> None:
        """The platform says so, or another edge: all workers are told, soon, and each of it once."""
        self._batches.add(changes)

    def _tell_changes(self, changes: list[Change]) -> None:
        for at in range(0, len(changes), TOLD_AT_ONCE):
            message = Changed(changes[at : at + TOLD_AT_ONCE])
            for line in self.lines:
                line.tell_changes(message)

    # Crew

    async def snapshots(self) -> Answers:
        return await self._ask(AskSnapshot)

    async def explain(self, host: str) -> Answers:
        return await self._ask(lambda number: AskExplain(number, host), all_of_them=False)

    async def routes(self, start: int, most: int, site: str, freshness: str) -> Answers:
        return await self._ask(lambda number: AskRoutes(number, start, most, site, freshness), all_of_them=False)

    async def invalidate(self, kind: str, name: str) -> Answers:
        if kind in KINDS:
            self.publish([Change(kind, name)])
        return await self._ask(lambda number: Invalidate(number, kind, name))

    async def drain(self, drain: OperatorDrain) -> Answers:
        key = (drain.kind, drain.name)
        if drain.seconds:
            self._drains[key] = time.monotonic() + drain.seconds
        else:
            self._drains.pop(key, None)
        return await self._ask(lambda number: DrainOf(number, drain.kind, drain.name, drain.seconds))

    def drains(self) -> list[OperatorDrain]:
        now = time.monotonic()
        self._drains = {key: until for key, until in self._drains.items() if until > now}
        return [OperatorDrain(kind, name, until - now) for (kind, name), until in self._drains.items()]

    async def wish(self, what: str) -> CommandResult:
        if what not in ("reload", "upgrade"):
            return CommandResult(False, [f"{what} is nothing that the master could do"])
        number = next(self._numbers)
        future: asyncio.Future[CommandResult] = asyncio.get_running_loop().create_future()
        self._wishes[number] = future
        self._master.tell(Command(number, "reload" if what == "reload" else "upgrade"))
        try:
            async with asyncio.timeout(WISH_DEADLINE):
                return await future
        except TimeoutError:
            return CommandResult(False, [f"the master did not answer within {WISH_DEADLINE:g} s"])
        finally:
            del self._wishes[number]

    def granted(self, number: int, granted: CommandResult) -> None:
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
            WorkerReply(
                hello.slot, hello.pid, msgspec.Raw(reply.body or b"null"), reply.why, hello.pid not in current
            )
            for (hello, _, _), reply in zip(asked, replies, strict=True)
            if reply is not None
        ]
        heard = {answer.pid for answer in told}
        silent = [slot for slot, pid in self.workers.items() if pid not in heard]
        return Answers(sorted(told, key=lambda answer: (answer.worker, answer.pid)), sorted(silent))
