"""One worker's connection to the admin process."""

import asyncio
import logging
from typing import Any, Protocol, cast

from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING
from edge.run.control.control_messages import (
    MOST,
    MOST_FROM_STRANGER,
    BadMessage,
    Changed,
    ControlReply,
    Drained,
    FromReceiver,
    FromWorker,
    HealthEventsSeen,
    Hello,
    Message,
    RoutesFetched,
    RoutesHeld,
    RoutesLearned,
    RoutesWanted,
    Unpacker,
    packed,
)
from edge.run.control.peer_credentials import Credentials

ANSWER_DEADLINE = 1.0
"Seconds until a worker counts as silent."
WAITING = 1 << 20
"Bytes that may wait for a worker which does not read; it is asked nothing more until it does."

log = logging.getLogger("styx.hub")


class WorkerEvents(Protocol):
    """To whom the connections of workers report what comes."""

    def lets_in(self, hello: Hello, peer: Credentials) -> bool:
        """Whether who says this is a worker of ours."""

    def joined(self, line: "WorkerLine") -> None:
        """A worker is there."""

    def left(self, line: "WorkerLine") -> None:
        """Its connection is lost."""

    def failed(self) -> None:
        """A message could not be dealt with."""

    def learned(self, teller: "WorkerLine", message: RoutesLearned) -> None:
        """The worker has learned routes."""

    def publish(self, changes: list[Change]) -> None:
        """The worker found that these have changed."""

    def tell_others(self, teller: "WorkerLine", message: Message) -> None:
        """What the worker found is for all the others."""

    def drained(self, drains: list[tuple[str, str, float]]) -> None:
        """What the worker drains: kind, name, and for how many seconds."""

    def routes_message(self, line: "WorkerLine", message: FromReceiver) -> None:
        """About the routes that are pushed."""


class WorkerLine(asyncio.Protocol):
    """Until its `Hello` it is anybody's: it has little room, and few seconds (`hello_deadline`)."""

    def __init__(self, control_server: WorkerEvents, peer: Credentials, hello_deadline: float) -> None:
        self._control_server = control_server
        self._unpacker = Unpacker(FromWorker, MOST_FROM_STRANGER)
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[ControlReply]] = {}
        self._patience = asyncio.get_running_loop().call_later(hello_deadline, self._too_late)
        self.peer = peer
        self._is_behind = False
        "Whether it was not told of a change."
        self.hello: Hello | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._patience.cancel()
        self._transport = None
        self._control_server.left(self)
        for future in self._waiting.values():
            future.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._unpacker.feed(data):
                self._hear(message)
        except BadMessage as error:
            log.warning(
                "control connection closed",
                extra={"code": "bad_control_message", "pid": self.peer.pid, "error": str(error)},
            )
            self.close()

    def close(self) -> None:
        self._patience.cancel()
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, question: Message, number: int) -> ControlReply | None:
        """The answer, or None when there is none in time."""
        future: asyncio.Future[ControlReply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            if self.tell(question):
                await asyncio.wait({future}, timeout=ANSWER_DEADLINE)
        finally:
            del self._waiting[number]
        return future.result() if future.done() and not future.cancelled() else None

    def tell(self, message: Message, most: int = WAITING) -> bool:
        """What needs no answer; nothing while so many bytes wait for the worker. Returns whether it was told."""
        transport = self._transport
        # To write to one that is closing raises (uvloop), and `connection_lost` comes a moment later.
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() >= most:
            return False
        try:
            transport.write(packed(message))
        except BadMessage as error:
            log.error("control message not sent", extra={"code": "control_message_not_sent", "error": str(error)})
            return False
        return True

    def tell_changes(self, message: Changed) -> None:
        """A worker that does not read fast enough misses these; when it has read what waits, it is told that
        everything has changed."""
        if self._is_behind or self.tell(message):
            return
        self._is_behind = True
        log.warning("worker misses changes", extra={"code": "worker_misses_changes", "pid": self.peer.pid})
        self.resume_writing()  # if it was the message, and not the worker

    def resume_writing(self) -> None:
        """It has read what waited for it."""
        if self._is_behind:
            self._is_behind = not self.tell(Changed([EVERYTHING]))

    def _too_late(self) -> None:
        log.warning(
            "no hello on the control channel in time", extra={"code": "control_hello_late", "pid": self.peer.pid}
        )
        self.close()

    def _hear(self, message: Any) -> None:
        """Raises BadMessage. One that fails is logged: those behind it have nothing to do with it."""
        if self.hello is None:
            if not isinstance(message, Hello) or not self._control_server.lets_in(message, self.peer):
                raise BadMessage("somebody who is no worker of ours")
            self.hello = message
            self._patience.cancel()
            self._unpacker.most = MOST
        try:
            self._deal_with(message)
        except Exception:
            self._control_server.failed()
            log.exception(
                "control message failed",
                extra={"code": "control_message_failed", "message_type": type(message).__name__},
            )

    def _deal_with(self, message: Any) -> None:
        match message:
            case ControlReply(number):
                future = self._waiting.get(number)
                if future is not None and not future.done():
                    future.set_result(message)
            case RoutesLearned():
                self._control_server.learned(self, message)
            case Changed(changes):
                self._control_server.publish(changes)
            case HealthEventsSeen():
                self._control_server.tell_others(self, message)
            case RoutesWanted() | RoutesFetched() | RoutesHeld():
                self._control_server.routes_message(self, message)
            case Drained(drains):
                self._control_server.drained(drains)
            case Hello():
                self._control_server.joined(self)
