"""The connection of one worker to the admin process."""

import asyncio
import logging
from typing import Any, Protocol, cast

from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING
from edge.run.control.control_messages import (
    MOST,
    MOST_HELLO,
    BadMessage,
    CertificatesWanted,
    Changed,
    ControlReply,
    Drained,
    FromIssuer,
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

REPLY_TIMEOUT = 1.0
"Seconds for a reply; then the worker counts as silent."
WAITING = 1 << 20
"Bytes that may wait for a worker that does not read; nothing more is sent to it until it does."

log = logging.getLogger("styx.control")


class WorkerEvents(Protocol):
    """Callbacks for what comes over the connections of workers."""

    def is_our_worker(self, hello: Hello, credentials: Credentials) -> bool:
        """Whether a process with these credentials that sent this `Hello` is a worker of this edge."""

    def joined(self, connection: "WorkerConnection") -> None:
        """A worker has identified itself."""

    def left(self, connection: "WorkerConnection") -> None:
        """The connection is lost."""

    def failed(self) -> None:
        """A message could not be handled."""

    def learned(self, sender: "WorkerConnection", message: RoutesLearned) -> None:
        """The worker has learned routes."""

    def publish(self, changes: list[Change]) -> None:
        """The worker has discovered these changes."""

    def send_to_others(self, sender: "WorkerConnection", message: Message) -> None:
        """Send a message of this worker to all other workers."""

    def drained(self, drains: list[tuple[str, str, float, str]]) -> None:
        """The worker has these drains: kind, name, seconds left, and who began it."""

    def wanted(self, message: CertificatesWanted) -> None:
        """The worker has found no certificates for these hostnames."""

    def issuer_message(self, connection: "WorkerConnection", message: FromIssuer) -> None:
        """The issuer sent a message."""

    def routes_message(self, connection: "WorkerConnection", message: FromReceiver) -> None:
        """The worker sent a message about pushed routes."""


class WorkerConnection(asyncio.Protocol):
    """The admin process's end of a connection, of a worker or of the issuer. Before its `Hello` the process at the
    other end is not trusted: it may send few bytes (`MOST_HELLO`), and has `hello_timeout` seconds."""

    def __init__(self, control_server: WorkerEvents, credentials: Credentials, hello_timeout: float) -> None:
        self._control_server = control_server
        self._unpacker = Unpacker(FromWorker | FromIssuer, MOST_HELLO)
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, asyncio.Future[ControlReply]] = {}
        self._timeout = asyncio.get_running_loop().call_later(hello_timeout, self._hello_timed_out)
        self.credentials = credentials
        self._is_behind = False
        "Whether a change could not be sent to it."
        self.hello: Hello | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timeout.cancel()
        self._transport = None
        self._control_server.left(self)
        for future in self._waiting.values():
            future.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._unpacker.feed(data):
                self._receive(message)
        except BadMessage as error:
            log.warning(
                "control connection closed",
                extra={"code": "bad_control_message", "pid": self.credentials.pid, "error": str(error)},
            )
            self.close()

    def close(self) -> None:
        self._timeout.cancel()
        if self._transport is not None:
            self._transport.abort()

    async def ask(self, request: Message, number: int) -> ControlReply | None:
        """Send a request and wait for its reply; None when there is none within REPLY_TIMEOUT."""
        future: asyncio.Future[ControlReply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            if self.send(request):
                await asyncio.wait({future}, timeout=REPLY_TIMEOUT)
        finally:
            del self._waiting[number]
        return future.result() if future.done() and not future.cancelled() else None

    def send(self, message: Message, most: int = WAITING) -> bool:
        """Send a message, unless `most` bytes or more wait for the worker. Returns whether it was sent."""
        transport = self._transport
        # Writing to a transport that is closing raises (uvloop), and `connection_lost` comes a moment later.
        if transport is None or transport.is_closing() or transport.get_write_buffer_size() >= most:
            return False
        try:
            transport.write(packed(message))
        except BadMessage as error:
            log.error("control message not sent", extra={"code": "control_message_not_sent", "error": str(error)})
            return False
        return True

    def send_changes(self, message: Changed) -> None:
        """Send changes. A worker that does not read fast enough misses them; when it has read what waits, it gets
        the change `EVERYTHING`."""
        if self._is_behind or self.send(message):
            return
        self._is_behind = True
        log.warning("worker misses changes", extra={"code": "worker_misses_changes", "pid": self.credentials.pid})
        self.resume_writing()  # if the message was the reason, and not the worker

    def resume_writing(self) -> None:
        """Called by asyncio when the worker has read what waited for it."""
        if self._is_behind:
            self._is_behind = not self.send(Changed([EVERYTHING]))

    def _hello_timed_out(self) -> None:
        log.warning(
            "first message on the control channel late",
            extra={"code": "control_hello_late", "pid": self.credentials.pid},
        )
        self.close()

    def _receive(self, message: Any) -> None:
        """Handle one message. An exception is logged, so that the messages behind it are handled. Raises
        BadMessage."""
        if self.hello is None:
            if not isinstance(message, Hello) or not self._control_server.is_our_worker(message, self.credentials):
                raise BadMessage("not a worker of this master")
            self.hello = message
            self._timeout.cancel()
            self._unpacker.most = MOST
        elif not isinstance(message, FromWorker if self.hello.role == "worker" else FromIssuer):
            raise BadMessage(f"{type(message).__name__} from the {self.hello.role}")
        try:
            self._handle(message)
        except Exception:
            self._control_server.failed()
            log.exception(
                "control message failed",
                extra={"code": "control_message_failed", "message_type": type(message).__name__},
            )

    def _handle(self, message: Any) -> None:
        if self.hello is not None and self.hello.role == "issuer" and not isinstance(message, Hello):
            self._control_server.issuer_message(self, message)
            return
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
                self._control_server.send_to_others(self, message)
            case RoutesWanted() | RoutesFetched() | RoutesHeld():
                self._control_server.routes_message(self, message)
            case CertificatesWanted():
                self._control_server.wanted(message)
            case Drained(drains):
                self._control_server.drained(drains)
            case Hello():
                self._control_server.joined(self)
