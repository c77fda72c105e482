"""The admin process's end of the control channel: sends requests to all workers at once, and relays routes, health
events and changes between them.

Workers connect to a socket whose listening end the master holds: when the admin process dies, they connect to its
successor. The drains are stored here, and sent to workers that connect later.
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
from edge.admin.admin_messages import (
    CommandResult,
    Configuration,
    LogLevels,
    OperatorDrain,
    ProcessLogLevel,
    WorkerReplies,
    WorkerReply,
)
from edge.rules.acme.issuance_records import ExplainedIssuance
from edge.rules.background_tasks import BackgroundTask
from edge.rules.balancing.drains import Drains
from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING, KINDS
from edge.rules.routing.route_records import whole
from edge.run import event_log
from edge.run.control.change_batches import ChangeBatches
from edge.run.control.channel import ChildEnd
from edge.run.control.control_listener import ControlListener
from edge.run.control.control_messages import (
    MOST_RECORDS,
    AskClients,
    AskExplain,
    AskLogLevel,
    AskName,
    AskRoutes,
    AskSnapshot,
    AskStatus,
    AskTop,
    CertificatesWanted,
    Changed,
    Command,
    DrainOf,
    FromIssuer,
    FromReceiver,
    Hello,
    Invalidate,
    Message,
    PagesAre,
    RenewTokens,
    RoutesLearned,
    SetLogLevel,
)
from edge.run.control.issuer_relay import IssuerRelay
from edge.run.control.peer_credentials import Credentials
from edge.run.control.worker_connection import WorkerConnection
from edge.run.routes.recent_records import RecentRecords
from edge.run.routes.route_set_publisher import RouteSetPublisher

COMMAND_TIMEOUT = 120.0
"Seconds for the master to carry out a command: a reload waits for new workers."
HELLO_TIMEOUT = 5.0
"Seconds for a worker to send its `Hello`."
MOST_ARRIVING, MOST_CONNECTIONS = 64, 1024
"Maximum of connections without a `Hello`, and of connections of workers."
RECENT_WAITING = 64 << 20
"Bytes that may wait for a worker that has just connected."


class ControlServer:
    """The server of the control channel; implements `admin.control_api.ControlApi`.

    `save`: called with records of routes to write to disk.
    """

    def __init__(
        self,
        master: ChildEnd,
        secret: bytes,
        save: Callable[[list[bytes]], None],
        *,
        count_failure: Callable[[BackgroundTask], None] = lambda task: None,
        count_refused: Callable[[int], None] = lambda count: None,
        hello_timeout: float = HELLO_TIMEOUT,
    ) -> None:
        self._save = save
        self._recent = RecentRecords()
        self._master = master
        self._secret = secret
        self.workers: dict[int, int] = {}
        "Process id by slot, from the master. Other workers that are connected are about to end."
        self._numbers = itertools.count(1)
        self._commands: dict[int, asyncio.Future[CommandResult]] = {}
        self._drains = Drains()
        "On the monotonic clock."
        self._listener: ControlListener | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._arriving: set[WorkerConnection] = set()
        "Connections that have not sent a `Hello`."
        self.connections: set[WorkerConnection] = set()
        self.routes_pushed = RouteSetPublisher(self.connections)
        self._pages: PagesAre | None = None
        self._issuer = IssuerRelay(self._ask, self.changed)
        self.publish: Callable[[list[Change]], None] = lambda changes: None
        "Sends changes to the other edges."
        self.read_configuration: Callable[[], Configuration] = lambda: Configuration("", None, [])
        "Returns the settings in force."
        self.explain_issuance: Callable[[str], ExplainedIssuance | None] = lambda host: None
        "Reads what is known of the orders of a certificate."
        self._count_failure, self._count_refused = count_failure, count_refused
        self._hello_timeout = hello_timeout
        self._batches = ChangeBatches(self._send_changes)

    async def start(self, control: socket.socket) -> None:
        """Accept workers: processes that have our parent and our user."""
        self._listener = ControlListener(
            control,
            user=os.geteuid(),
            master=os.getppid(),
            is_full=lambda: len(self._arriving) >= MOST_ARRIVING or len(self.connections) >= MOST_CONNECTIONS,
            admit=self._admit,
            refused=self._count_refused,
        )
        self._listener.start()

    async def stop(self) -> None:
        if self._listener is not None:
            self._listener.stop()
        self._batches.stop()
        self._issuer.stop()
        for connection in (*self.connections, *self._arriving):
            connection.close()

    async def _admit(self, sock: socket.socket, credentials: Credentials) -> None:
        connection = WorkerConnection(self, credentials, self._hello_timeout)
        self._arriving.add(connection)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
        except BaseException:
            self.left(connection)
            connection.close()
            sock.close()
            raise

    # WorkerEvents

    def is_our_worker(self, hello: Hello, credentials: Credentials) -> bool:
        return (
            hmac.compare_digest(hello.secret, self._secret)
            and hello.version == __version__
            and hello.pid == credentials.pid
        )

    def joined(self, connection: WorkerConnection) -> None:
        """Send a new worker what the others know: recent routes, possible changes, and drains."""
        self._arriving.discard(connection)
        if connection.hello is not None and connection.hello.role == "issuer":
            self._issuer.joined(connection)
            return
        self.connections.add(connection)
        self._issuer.worker_joined(connection, next(self._numbers))
        self.routes_pushed.joined(connection)
        if self._pages is not None:
            self._send_pages(connection, self._pages)
        for batch in self._recent.batches():
            connection.send(RoutesLearned(batch), most=RECENT_WAITING)
        connection.send(Changed([EVERYTHING]), most=2 * RECENT_WAITING)  # it may have missed some
        for drain in self.drains():
            number = next(self._numbers)
            request = DrainOf(number, drain.kind, drain.name, drain.seconds, drain.by)
            task = asyncio.get_running_loop().create_task(connection.ask(request, number))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def left(self, connection: WorkerConnection) -> None:
        """Forget a connection that is lost."""
        self._arriving.discard(connection)
        self.connections.discard(connection)
        self.routes_pushed.left(connection)
        self._issuer.left(connection)

    def routes_message(self, connection: WorkerConnection, message: FromReceiver) -> None:
        """A worker requests, or acknowledges, a part of the pushed routes."""
        self.routes_pushed.received(connection, message)

    def wanted(self, message: CertificatesWanted) -> None:
        """Tell the issuer, if there is one, for which hostnames a worker has found no certificate."""
        self._issuer.wanted(message)

    def issuer_message(self, connection: WorkerConnection, message: FromIssuer) -> None:
        """Carry out a request of the issuer."""
        self._issuer.received(connection, message)

    def drained(self, drains: list[tuple[str, str, float, str]]) -> None:
        """Store the drains of a worker: an earlier admin process ordered them."""
        for kind, name, seconds, by in drains:
            if not self._drains.has(kind, name):
                self._drains.set(kind, name, time.monotonic() + seconds, by)

    def failed(self) -> None:
        """Count a message from a worker that could not be handled."""
        self._count_failure(BackgroundTask.CONTROL_CHANNEL)

    def learned(self, sender: WorkerConnection, message: RoutesLearned) -> None:
        """Send routes that a worker has looked up to the others, and store them for later workers."""
        good = whole(message.records)
        self._recent.add(good)
        self.send_to_others(sender, RoutesLearned(good))
        self._save(good)

    def send_to_others(self, sender: WorkerConnection, message: Message) -> None:
        """Send a message to all workers but its sender."""
        for connection in self.connections:
            if connection is not sender:
                connection.send(message)

    def use_pages(self, pages: PagesAre) -> None:
        """Give these error pages to all workers, and to those that connect later."""
        self._pages = pages
        for connection in tuple(self.connections):
            self._send_pages(connection, pages)

    def _send_pages(self, connection: WorkerConnection, pages: PagesAre) -> None:
        if not connection.send(pages, most=RECENT_WAITING):
            connection.close()  # the worker connects again, and gets them then

    def changed(self, changes: list[Change]) -> None:
        """Send changes from the platform or another edge to all workers, in batches."""
        self._batches.add(changes)

    def _send_changes(self, changes: list[Change]) -> None:
        for at in range(0, len(changes), MOST_RECORDS):
            message = Changed(changes[at : at + MOST_RECORDS])
            for connection in self.connections:
                connection.send_changes(message)

    # ControlApi

    async def snapshots(self) -> WorkerReplies:
        return await self._ask(AskSnapshot)

    async def explain(self, host: str) -> WorkerReplies:
        return await self._ask(lambda number: AskExplain(number, host), all_of_them=False)

    async def issuance(self, host: str) -> ExplainedIssuance | None:
        return await asyncio.to_thread(self.explain_issuance, host)

    async def routes(self, start: int, most: int, site: str, freshness: str) -> WorkerReplies:
        return await self._ask(lambda number: AskRoutes(number, start, most, site, freshness), all_of_them=False)

    async def search_name(self, kind: str, name: str) -> WorkerReplies:
        return await self._ask(lambda number: AskName(number, kind, name), all_of_them=False)

    async def statuses(self) -> WorkerReplies:
        return await self._ask(AskStatus, all_of_them=False)

    async def top(self) -> WorkerReplies:
        return await self._ask(AskTop)

    async def invalidate(self, kind: str, name: str) -> WorkerReplies:
        if kind in KINDS:
            self.publish([Change(kind, name)])
        return await self._ask(lambda number: Invalidate(number, kind, name))

    async def drain(self, drain: OperatorDrain) -> WorkerReplies:
        until = time.monotonic() + drain.seconds if drain.seconds else None
        self._drains.set(drain.kind, drain.name, until, drain.by)
        return await self._ask(lambda number: DrainOf(number, drain.kind, drain.name, drain.seconds, drain.by))

    def drains(self) -> list[OperatorDrain]:
        now, wall = time.monotonic(), time.time()
        self._drains.expire(now)
        return [OperatorDrain(*drain, until=wall + drain[2]) for drain in self._drains.left(now)]

    async def clients(self) -> WorkerReplies:
        return await self._ask(AskClients, all_of_them=False)

    async def log_levels(self) -> LogLevels:
        return self._log_levels(await self._ask(AskLogLevel))

    async def set_log_level(self, level: str, seconds: float) -> LogLevels:
        self._master.send(SetLogLevel(next(self._numbers), level, seconds))
        event_log.follow_order(level, seconds, time.monotonic())
        return self._log_levels(await self._ask(lambda number: SetLogLevel(number, level, seconds)))

    def _log_levels(self, replies: WorkerReplies) -> LogLevels:
        own = ProcessLogLevel(*event_log.level_now(time.monotonic()))
        return LogLevels(own, replies.workers, replies.silent)

    def configuration(self) -> Configuration:
        return self.read_configuration()

    async def command(self, what: str) -> CommandResult:
        if what not in ("reload", "upgrade"):
            return CommandResult(False, [f"{what} is no command of the master"])
        number = next(self._numbers)
        future: asyncio.Future[CommandResult] = asyncio.get_running_loop().create_future()
        self._commands[number] = future
        self._master.send(Command(number, "reload" if what == "reload" else "upgrade"))
        try:
            async with asyncio.timeout(COMMAND_TIMEOUT):
                return await future
        except TimeoutError:
            return CommandResult(False, [f"no result from the master within {COMMAND_TIMEOUT:g} s"])
        finally:
            del self._commands[number]

    def command_finished(self, number: int, result: CommandResult) -> None:
        """The master has carried out a command: pass its result to the caller of `command`."""
        future = self._commands.get(number)
        if future is not None and not future.done():
            future.set_result(result)

    async def renew_tokens(self) -> None:
        """Have all workers read the core API's token file again."""
        await self._ask(RenewTokens)

    async def _ask(self, request: Callable[[int], Message], *, all_of_them: bool = True) -> WorkerReplies:
        """Send a request to all workers and collect their replies. `all_of_them`: also to workers about to end."""
        current = set(self.workers.values())
        asked = [
            (connection.hello, next(self._numbers), connection)
            for connection in self.connections
            if connection.hello is not None and (all_of_them or connection.hello.pid in current)
        ]
        replies = await asyncio.gather(
            *(connection.ask(request(number), number) for _, number, connection in asked)
        )
        received = [
            WorkerReply(
                hello.slot, hello.pid, msgspec.Raw(reply.body or b"null"), reply.why, hello.pid not in current
            )
            for (hello, _, _), reply in zip(asked, replies, strict=True)
            if reply is not None
        ]
        replied = {reply.pid for reply in received}
        silent = [slot for slot, pid in self.workers.items() if pid not in replied]
        return WorkerReplies(sorted(received, key=lambda reply: (reply.worker, reply.pid)), sorted(silent))
