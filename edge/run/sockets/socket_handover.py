"""An edge that is told to stop leaves its sockets to another that is started in its place: none is ever closed.

    the one that drains                          the one that comes
    Heir ◄────────────── connects ────────────── inherit        an abstract address, made of the admin address
         ─── one message a listener, with its descriptors ───►
         ◄──────────────── "ready" ──────────────               when its workers serve: the old ones stop

An edge that does not drain does not listen there: a second one with its addresses fails, as it should.
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
from edge.run.sockets.listening_sockets import Held, Sockets, Spare, adopted, told_of

PATIENCE = 5.0
"Seconds for the other side to say what it has to say at once."
WAITING = 128
"Connections that wait for us to look at them: anybody on this machine may connect."
AT_ONCE = 64
"Those that are looked at in one step."
MOST_DESCRIPTORS = 253
"In one message (SCM_MAX_FD of Linux)."

log = structlog.get_logger("styx.master")


def _meeting_point(admin: Address) -> str:
    return f"\0styx-heir {admin}"


def _is_trusted(sock: socket.socket) -> bool:
    """Whether the other side is root or who we are."""
    return peer_of(sock).uid in (0, os.geteuid())


class SocketHandover:
    """The side that drains. Poll `fileno`, and call `step` when there is something to read."""

    def __init__(self, sockets: Sockets) -> None:
        self._sockets = sockets
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line: socket.socket | None = None
        self._strangers = False
        "The log has told of some."
        self.serves = False
        "It has our sockets, and has said that it serves."

    @classmethod
    def wait_for(cls, sockets: Sockets) -> "SocketHandover | None":
        """Open the door; None when somebody else waits there already."""
        heir = cls(sockets)
        try:
            heir._door.bind(_meeting_point(sockets.admin.address))
            heir._door.listen(WAITING)
            heir._door.setblocking(False)
        except OSError:
            heir.close()
            return None
        return heir

    def fileno(self) -> int:
        return (self._line or self._door).fileno()

    def step(self) -> None:
        """Somebody comes, is ready, or has gone."""
        if self._line is None:
            self._line = self._let_in()
            if self._line is None:
                return
            self._line.settimeout(PATIENCE)
            try:
                self._hand_over(self._line)
            except OSError as error:
                log.warning("sockets not handed over", code="handover_failed", error=str(error))
                self._turn_away()
        else:
            said = b""
            with suppress(OSError):
                said = self._line.recv(64)
            self.serves = said == SERVING
            if not self.serves:
                self._turn_away()

    def _let_in(self) -> socket.socket | None:
        """Whoever may have the sockets; others are closed at once, and the log tells of the first of them."""
        for _ in range(AT_ONCE):
            try:
                line, _ = self._door.accept()
            except OSError:  # nobody waits any more
                return None
            if _is_trusted(line):
                return line
            if not self._strangers:
                log.warning("sockets requested by another user", code="handover_refused", user=peer_of(line).uid)
            self._strangers = True
            line.close()
        return None

    def _hand_over(self, line: socket.socket) -> None:
        for held in self._sockets.every:
            descriptors = [sock.fileno() for sock in held.sockets]
            if len(descriptors) > MOST_DESCRIPTORS:
                raise OSError(f"{len(descriptors)} sockets for {held.address} do not fit into one message")
            socket.send_fds(line, [json.dumps(told_of(held)).encode()], descriptors)
        line.send(b"{}")
        log.info("sockets handed over to another edge", code="sockets_handed_over")

    def _turn_away(self) -> None:
        assert self._line is not None
        self._line.close()
        self._line = None

    def close(self) -> None:
        self._door.close()
        if self._line is not None:
            self._line.close()


def _connect(line: socket.socket, address: str) -> None:
    """Raises OSError. Where many wait, it is tried again for a while: they are strangers, and turned away."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            line.connect(address)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def inherit(admin: Address) -> tuple[Spare, int] | None:
    """The sockets of an edge with this admin address that drains now, and where to say that we serve.

    None when there is no such edge.
    """
    line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    line.settimeout(PATIENCE)
    held: list[Held] = []
    try:
        _connect(line, _meeting_point(admin))
        if not _is_trusted(line):
            raise PermissionError("it belongs to somebody else")
        while True:
            said, descriptors, _, _ = socket.recv_fds(line, 65536, MOST_DESCRIPTORS)
            told = json.loads(said or b"{}")
            if not told:
                break
            held.append(adopted(told, descriptors))
    except ConnectionRefusedError:
        line.close()
        return None
    except OSError as error:
        log.warning("sockets of a draining edge not received", code="sockets_not_received", error=str(error))
        Spare(held).close()
        line.close()
        return None
    return Spare(held), line.detach()
