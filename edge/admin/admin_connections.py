"""The connections of the admin server: how many, for how long, and with how many bytes.

aiohttp limits the size of a line and the number of pipelined requests. It has no deadline for a head, none for a
client that does not read its response, and no limit of connections; so each of its protocols stands behind one of
ours, which does. Many connections of one local user cost nobody else the health checks: when there is no room, one
that does nothing makes room for a new one, and any but one that changes something if need be.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple, cast

import structlog
from aiohttp import web

KIB = 1024

log = structlog.get_logger("styx.admin")


class Bounds(NamedTuple):
    """Of each listening address apart, in seconds and bytes."""

    connections: int = 64
    head: float = 5.0
    "From the connect, or from the first byte of a further request, to the end of its head."
    body: float = 5.0
    handling: float = 150.0
    "From the head to the beginning of the response: a reload or an upgrade may take two minutes."
    response: float = 75.0
    "From the beginning of a response to its end and to the next request: longer than Prometheus's usual interval."
    linger: float = 1.0
    "For a client that sends more than it may to read what we think of it."
    head_bytes: int = 16 * KIB
    body_bytes: int = 64 * KIB
    unsent: int = 8 * KIB * KIB
    "In all connections together; beyond it the one that has most waiting is closed."
    deadline_sweep: float = 1.0
    "How often deadlines are looked at."


def peer_user(sock: socket.socket) -> int:
    """The user at the other end of a Unix socket, as the kernel noted at its connect (unix(7), SO_PEERCRED)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


class Connection(asyncio.Protocol):
    """One connection: passes events on to aiohttp's protocol, and notes what they mean for its deadline."""

    def __init__(self, connections: "Connections", handler: web.RequestHandler, group: int) -> None:
        self._connections = connections
        self.handler = handler
        self.group = group
        "The address family by which it came; each has room of its own."
        self.transport: asyncio.Transport
        self.user: int | None = None
        "Of the other end; None over TCP."
        self.admitted = False
        self.in_request = False
        self.acts = False
        "Its request may change something: it is not closed to make room."
        self.since = 0.0
        "When it was made, or its last request began or was handled."
        self.deadline = 0.0
        self._quiet = False
        "Nothing of the next request has come yet."
        self._received = 0
        "Bytes since the last request was handled."

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.group == socket.AF_UNIX:
            self.user = peer_user(transport.get_extra_info("socket"))
        now = self._connections.now()
        self.since, self.deadline = now, now + self._connections.bounds.head
        self.admitted = self._connections.admit(self)
        if self.admitted:
            self.handler.connection_made(transport)
        else:
            self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.forget(self)
        if self.admitted:
            self.handler.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        bounds = self._connections.bounds
        if self._quiet:
            self._quiet = False
            self.deadline = min(self.deadline, self._connections.now() + bounds.head)
        room = bounds.head_bytes + bounds.body_bytes - self._received
        self._received += len(data)
        if len(data) > room:  # the rest is not read: no request of ours is so long
            self.deadline = min(self.deadline, self._connections.now() + bounds.linger)
            data = data[: max(0, room)]
        if data:
            self.handler.data_received(data)

    def eof_received(self) -> None:
        self.handler.eof_received()

    def pause_writing(self) -> None:
        self.handler.pause_writing()

    def resume_writing(self) -> None:
        self.handler.resume_writing()

    @property
    def is_local(self) -> bool:
        """Whether the other end is on this machine."""
        ours, theirs = (self.transport.get_extra_info(name) for name in ("sockname", "peername"))
        return self.user is not None or (bool(theirs) and ours[0] == theirs[0])

    def request_begins(self, *, acts: bool) -> None:
        """Its head is complete."""
        self.in_request, self.acts = True, acts
        self.since = self._connections.now()
        self.deadline = self.since + self._connections.bounds.handling
        self._connections.limit_unsent()

    def request_handled(self) -> None:
        """The response is about to be written."""
        bounds = self._connections.bounds
        self.in_request = self.acts = False
        now = self.since = self._connections.now()
        if self._received <= bounds.head_bytes + bounds.body_bytes:
            self._received, self._quiet = 0, True
            self.deadline = now + bounds.response
        else:
            self.deadline = now + bounds.linger


class Connections:
    """All connections of one server. `make` gives aiohttp's protocol for a new one."""

    def __init__(self, make: Callable[[], web.RequestHandler], bounds: Bounds) -> None:
        self._make = make
        self.bounds = bounds
        self._loop = asyncio.get_running_loop()
        self._open: dict[web.RequestHandler, Connection] = {}
        self._deadline_sweep: asyncio.TimerHandle | None = None
        self._pushed_out = 0
        self._next_log = 0.0

    def factory(self, sock: socket.socket) -> Callable[[], Connection]:
        """For the loop's `create_server` on this socket."""
        return lambda: Connection(self, self._make(), sock.family)

    def of(self, request: web.BaseRequest) -> Connection | None:
        """The one by which this request came; None when it is closed already."""
        return self._open.get(request.protocol)

    def now(self) -> float:
        return self._loop.time()

    def start(self) -> None:
        """Look at the deadlines from now on."""
        self._deadline_sweep = self._loop.call_later(self.bounds.deadline_sweep, self.start)
        now = self.now()
        for connection in tuple(self._open.values()):
            if now > connection.deadline:
                connection.transport.abort()
        if self._pushed_out and now >= self._next_log:
            log.warning(
                "admin connections closed for newer ones", code="admin_connections_full", closed=self._pushed_out
            )
            self._pushed_out, self._next_log = 0, now + 60.0

    def stop(self) -> None:
        if self._deadline_sweep is not None:
            self._deadline_sweep.cancel()

    def admit(self, connection: Connection) -> bool:
        """Take it in, and return whether that was possible.

        If need be it takes the place of another: of one without a request, or else of one that reads, whichever has
        been so for longest.
        """
        others = [other for other in self._open.values() if other.group == connection.group]
        if len(others) >= self.bounds.connections:
            self._pushed_out += 1
            least = min((c for c in others if not c.acts), key=lambda c: (c.in_request, c.since), default=None)
            if least is None:
                return False
            self._close(least)
        self._open[connection.handler] = connection
        return True

    def forget(self, connection: Connection) -> None:
        """It is closed."""
        self._open.pop(connection.handler, None)

    def limit_unsent(self) -> None:
        """Close those whose clients do not read, while more waits for all of them than may."""
        waiting = {c: c.transport.get_write_buffer_size() for c in self._open.values()}
        while sum(waiting.values()) > self.bounds.unsent:
            most = max(waiting, key=lambda c: waiting[c])
            del waiting[most]
            self._close(most)

    def _close(self, connection: Connection) -> None:
        del self._open[connection.handler]
        connection.transport.abort()
