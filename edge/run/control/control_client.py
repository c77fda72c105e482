"""A worker's end of the control channel: the admin process asks, and gets answers when it reads them.

The admin process may be slow, stand still, or die and come back: none of it is felt by requests. What waits for it
is bounded: beyond that nothing is told to it, and when it asks without reading the answers, the connection is given
up, and made anew after a pause.
"""

import asyncio
import logging
import os
import socket
from contextlib import suppress
from typing import Any, NamedTuple, cast

import msgspec

from edge import __version__
from edge.net.background import Timer
from edge.rules.background_tasks import BackgroundTask
from edge.rules.explain import RouteFilter
from edge.rules.routing.change_records import Change
from edge.rules.routing.route_records import records
from edge.run.control.control_messages import (
    MOST,
    TOLD_AT_ONCE,
    TOLD_BYTES,
    AboutRoutes,
    AskExplain,
    AskRoutes,
    AskSnapshot,
    BadMessage,
    Changed,
    ControlReply,
    Drained,
    DrainOf,
    HealthEventsSeen,
    Hello,
    Invalidate,
    Message,
    RenewTokens,
    RoutesLearned,
    ToWorker,
    Unpacker,
    packed,
)
from edge.run.routes.route_set_receiver import RoutesReceiver
from edge.run.worker import Worker

TELLING = 0.1
"Seconds for which learned routes are gathered before the others are told."
PAUSE = 0.2
"Seconds between two tries to reach the admin process."
WAITING = 4 << 20
"Bytes that may wait for an admin process which does not read, and one message more."

MOST_OF_ANSWER = MOST - 1024
"Bytes of one answer to a question."

log = logging.getLogger("styx.control")


class Password(NamedTuple):
    """Where the control channel is, and what a worker says to be let in."""

    address: str
    secret: bytes


class ControlClient(asyncio.Protocol):
    """See the module."""

    def __init__(self, worker: Worker, slot: int, password: Password, *, waiting: int = WAITING) -> None:
        self._worker = worker
        self._slot = slot
        self._password = password
        self._most_waiting = waiting
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._telling: Timer | None = None
        self._unpacker = Unpacker(ToWorker)
        self._shared = worker.context.resolver.environments.shared
        self._shared.ring = self._ring
        self.routes_pushed = RoutesReceiver(lambda: worker.context.pushed, self._send)
        self._told_soon = False
        self._answering: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Connect, and again whenever the connection is lost."""
        background = self._worker.background
        self.routes_pushed.start(background)
        self._task = background.run(BackgroundTask.CONTROL_CHANNEL, self._stay_connected)
        self._telling = background.every(BackgroundTask.CONTROL_SENDER, TELLING, self._tell)

    async def stop(self) -> None:
        """Connect no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._telling is not None:
            self._telling.cancel()
        await self.routes_pushed.stop()
        for answering in self._answering:
            answering.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        self._tell()
        if self._transport is not None:
            self._transport.close()

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                sock.connect(self._password.address)
                self._lost.clear()
                self._unpacker = Unpacker(ToWorker)
                await loop.create_unix_connection(lambda: self, sock=sock)
            except OSError as error:  # nobody listens, or too many wait
                log.debug("control channel unavailable", extra={"code": "control_unavailable", "error": str(error)})
                sock.close()
            except BaseException:
                sock.close()
                raise
            else:
                await self._lost.wait()
            await asyncio.sleep(PAUSE)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        drains = self._worker.context.table.drains.left(self._worker.context.clock())
        self._send(Hello(__version__, self._password.secret, self._slot, os.getpid()))
        self._send(Drained(drains))

    @property
    def _has_room(self) -> bool:
        """Whether the admin process is there, and reads what it is told."""
        transport = self._transport
        if transport is None or transport.is_closing():  # `connection_lost` comes a moment later
            return False
        return transport.get_write_buffer_size() < self._most_waiting

    def _send(self, message: Message) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._transport.write(packed(message))
        except BadMessage as error:
            log.error("control message not sent", extra={"code": "control_message_not_sent", "error": str(error)})

    def _tell(self) -> None:
        """What was learned, to the admin process: it tells the others, and writes it down. What there is no room
        for waits as names only."""
        resolver = self._worker.context.resolver
        while self._has_room and (told := resolver.compact_routes.take_untold(TOLD_AT_ONCE, TOLD_BYTES)):
            self._send(RoutesLearned(told))
        if self._has_room and (changes := resolver.discovered.take_all(self._worker.context.clock())):
            self._send(Changed(changes))

    def _ring(self) -> None:
        """There is evidence to tell; all that comes in this turn of the loop goes in one message."""
        if not self._told_soon:
            self._told_soon = True
            asyncio.get_running_loop().call_soon(self._tell_evidence)

    def _tell_evidence(self) -> None:
        self._told_soon = False
        evidence = self._shared.take()
        if self._has_room:
            self._send(HealthEventsSeen(evidence))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self.routes_pushed.disconnected()
        self._lost.set()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._unpacker.feed(data):
                self._hear(message)
        except BadMessage as error:
            log.warning("control connection closed", extra={"code": "bad_control_message", "error": str(error)})
            if self._transport is not None:
                self._transport.abort()

    def _hear(self, message: Any) -> None:
        """One that cannot be dealt with is logged: to give up the connection would not help, for it may come again
        with the next one."""
        try:
            if isinstance(message, RoutesLearned):
                self._worker.context.resolver.learn(records(b"".join(message.records)))
            elif isinstance(message, HealthEventsSeen):
                self._worker.hear(message.evidence)
            elif isinstance(message, AboutRoutes):
                self.routes_pushed.heard(message)
            elif isinstance(message, Changed):
                self._worker.context.resolver.invalidator.changed(message.changes)
            else:
                answering = asyncio.create_task(self._answer(message), name=type(message).__name__)
                self._answering.add(answering)
                answering.add_done_callback(self._answering.discard)
        except Exception:
            self._worker.row.task_failed(BackgroundTask.CONTROL_CHANNEL)
            log.exception(
                "control message failed",
                extra={"code": "control_message_failed", "message_type": type(message).__name__},
            )

    async def _answer(self, question: Any) -> None:
        try:
            reply = ControlReply(question.number, msgspec.json.encode(await self._do(question)))
            if len(reply.body) > MOST_OF_ANSWER:
                raise BadMessage(f"an answer of {len(reply.body)} bytes, at most {MOST_OF_ANSWER}")
        except Exception as error:  # told to who asked; nothing of it may reach requests
            log.exception(
                "control request failed",
                extra={"code": "control_request_failed", "message_type": type(question).__name__},
            )
            reply = ControlReply(question.number, b"", f"{type(error).__name__}: {error}")
        if self._has_room:
            self._send(reply)
        elif self._transport is not None:
            log.warning("control connection not read", extra={"code": "control_connection_stalled"})
            self._transport.abort()

    async def _do(self, question: Any) -> object:
        worker = self._worker
        match question:
            case AskSnapshot():
                return worker.snapshot()
            case AskExplain(_, host):
                return worker.explain(host)
            case AskRoutes(_, start, most, site, freshness):
                return worker.list_routes(RouteFilter(site, freshness), start, most)
            case Invalidate(_, kind, name):
                return await worker.context.resolver.invalidator.invalidate(Change(kind, name))
            case DrainOf(_, kind, name, seconds):
                return worker.drain_of(kind, name, seconds)
            case RenewTokens():
                worker.context.resolver.renew_token()
        return None
