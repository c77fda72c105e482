"""Hands the sockets of a draining edge over to another edge that is started in its place, so that none is closed.

    draining edge                                     new edge
    SocketHandover ◄──────────── connects ─────────── inherit   an abstract address, made of the admin address
                   ── a message for each address, with its descriptors ──►
                   ◄───────────── "ready" ───────────           when its workers serve: the old ones drain

An edge that does not drain does not listen there: a second edge with the same addresses fails to start, as it
should.
"""

import json
import os
import socket
import time
from contextlib import suppress

import structlog

from edge.rules.settings.values import Address
from edge.run.control.peer_credentials import peer_of
from edge.run.processes.upgrade import SERVING
from edge.run.sockets.listening_sockets import Held, Sockets, Spare, adopted, description_of

TIMEOUT = 5.0
"Seconds to connect, and for each message that the other side sends without delay."
WAITING = 128
"Connections in the backlog: every process on this machine may connect."
AT_ONCE = 64
"Connections that are accepted in one step."
MOST_DESCRIPTORS = 253
"Descriptors in one message (SCM_MAX_FD of Linux)."

log = structlog.get_logger("styx.master")


def _abstract_address(admin: Address) -> str:
    return f"\0styx-heir {admin}"


def _is_trusted(sock: socket.socket) -> bool:
    """Whether the process at the other end runs as root or as our user."""
    return peer_of(sock).uid in (0, os.geteuid())


class SocketHandover:
    """The draining side. Poll `fileno`, and call `step` when it is readable."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._connection: socket.socket | None = None
        self._refusal_logged = False
        "Whether a refused process has been logged."
        self.serves = False
        "Whether another edge has our sockets, and has reported that it serves."

    @classmethod
    def wait_for(cls, sockets: Sockets) -> "SocketHandover | None":
        """Listen for another edge; None when another draining edge listens there already."""
        handover = cls(sockets)
        try:
            handover._listener.bind(_abstract_address(sockets.admin.address))
            handover._listener.listen(WAITING)
            handover._listener.setblocking(False)
        except OSError:
            handover.close()
            return None
        return handover

    @property
    def is_under_way(self) -> bool:
        """Whether another edge has our sockets. It may not serve on them yet."""
        return self._connection is not None

    def fileno(self) -> int:
        return (self._connection or self._listener).fileno()

    def step(self) -> None:
        """Accept another edge and send it our sockets; or read that it serves, or that it has ended."""
        if self._connection is None:
            self._connection = self._accept()
            if self._connection is None:
                return
            self._connection.settimeout(TIMEOUT)
            try:
                self._hand_over(self._connection)
            except OSError as error:
                log.warning("listening sockets not handed over", code="handover_failed", error=str(error))
                self._disconnect()
        else:
            report = b""
            with suppress(OSError):
                report = self._connection.recv(64)
            self.serves = report == SERVING
            if not self.serves:
                self._disconnect()

    def _accept(self) -> socket.socket | None:
        """Accept a connection of a trusted process. Others are closed at once, and the first of them is logged."""
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._listener.accept()
            except OSError:  # no more connections wait
                return None
            if _is_trusted(connection):
                return connection
            if not self._refusal_logged:
                log.warning(
                    "listening sockets requested by another user",
                    code="handover_refused",
                    user=peer_of(connection).uid,
                )
            self._refusal_logged = True
            connection.close()
        return None

    def _hand_over(self, connection: socket.socket) -> None:
        for held in self._sockets.every:
            descriptors = [sock.fileno() for sock in held.sockets]
            if len(descriptors) > MOST_DESCRIPTORS:
                raise OSError(f"{len(descriptors)} sockets for {held.address} do not fit into one message")
            socket.send_fds(connection, [json.dumps(description_of(held)).encode()], descriptors)
        connection.send(b"{}")
        log.info("listening sockets handed over to another edge", code="sockets_handed_over")

    def _disconnect(self) -> None:
        assert self._connection is not None
        self._connection.close()
        self._connection = None

    def close(self) -> None:
        self._listener.close()
        if self._connection is not None:
            self._connection.close()


def _connect(connection: socket.socket, address: str) -> None:
    """Connect. Raises OSError. While the backlog is full, it retries for TIMEOUT seconds: the connections in it are
    refused soon."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            connection.connect(address)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def inherit(admin: Address) -> tuple[Spare, int] | None:
    """The sockets of a draining edge with this admin address, and the descriptor to report over that we serve.

    None when there is no such edge.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(TIMEOUT)
    held: list[Held] = []
    try:
        _connect(connection, _abstract_address(admin))
        if not _is_trusted(connection):
            raise PermissionError("it belongs to another user")
        while True:
            data, descriptors, _, _ = socket.recv_fds(connection, 65536, MOST_DESCRIPTORS)
            about = json.loads(data or b"{}")
            if not about:
                break
            held.append(adopted(about, descriptors))
    except ConnectionRefusedError:
        connection.close()
        return None
    except OSError as error:
        log.warning(
            "listening sockets not received from the draining edge", code="sockets_not_received", error=str(error)
        )
        Spare(held).close()
        connection.close()
        return None
    return Spare(held), connection.detach()
