"""Limits the connections of the admin server: their number, their time and their bytes.

aiohttp limits the size of a line and the number of pipelined requests. It has no timeout for a head, none for a
client that does not read its response, and no limit of connections. So each aiohttp protocol is wrapped in a
`Connection`, which has these. Many connections of one local user must not block health checks: when the limit is
reached, a new connection replaces an idle one or, if there is none, one whose request only reads.
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
    """The limits of each listening address, in seconds and bytes."""

    connections: int = 64
    head: float = 5.0
    "From the connect, or from the first byte of a further request, to the end of its head."
    body: float = 5.0
    handling: float = 150.0
    "From the head to the beginning of the response: a reload or an upgrade may take two minutes."
    response: float = 75.0
    "From the beginning of a response to its end and to the next request: longer than Prometheus's usual interval."
    linger: float = 1.0
    "Lingering close: time for a client that sends too much to read the error response."
    head_bytes: int = 16 * KIB
    body_bytes: int = 64 * KIB
    unsent: int = 8 * KIB * KIB
    "Unsent bytes of all connections together; beyond it the connection with most of them is closed."
    deadline_sweep: float = 1.0
    "Seconds between two checks of the deadlines."


def peer_user(sock: socket.socket) -> int:
    """The user id of a Unix socket's client, as the kernel recorded it at the connect (unix(7), SO_PEERCRED)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[1])


class Connection(asyncio.Protocol):
    """One connection: passes events to aiohttp's protocol, and sets the deadline that follows from them."""

    def __init__(self, connections: "Connections", handler: web.RequestHandler, group: int) -> None:
        self._connections = connections
        self.handler = handler
        self.group = group
        "The address family of its listener; each has a limit of its own."
        self.transport: asyncio.Transport
        self.user: int | None = None
        "User id of the client; None over TCP."
        self.admitted = False
        self.in_request = False
        self.acts = False
        "Its request may change something: it is not closed for a new connection."
        self.since = 0.0
        "When it was accepted, or when its last request began or was handled; on the clock of the loop."
        self.deadline = 0.0
        "On the clock of the loop."
        self._idle = False
        "No byte of the next request has been received yet."
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
        if self._idle:
            self._idle = False
            self.deadline = min(self.deadline, self._connections.now() + bounds.head)
        room = bounds.head_bytes + bounds.body_bytes - self._received
        self._received += len(data)
        if len(data) > room:  # discard the rest: no valid request is so long
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
        """Whether the client is on this machine."""
        local, remote = (self.transport.get_extra_info(name) for name in ("sockname", "peername"))
        return self.user is not None or (bool(remote) and local[0] == remote[0])

    def request_begins(self, *, acts: bool) -> None:
        """Set the deadline for handling a request whose head is complete."""
        self.in_request, self.acts = True, acts
        self.since = self._connections.now()
        self.deadline = self.since + self._connections.bounds.handling
        self._connections.limit_unsent()

    def response_goes_on(self) -> None:
        """Set the deadline anew: a stream sends its next part."""
        self.deadline = self._connections.now() + self._connections.bounds.response
        self._connections.limit_unsent()

    def request_handled(self) -> None:
        """Set the deadline for writing the response and receiving the next request."""
        bounds = self._connections.bounds
        self.in_request = self.acts = False
        now = self.since = self._connections.now()
        if self._received <= bounds.head_bytes + bounds.body_bytes:
            self._received, self._idle = 0, True
            self.deadline = now + bounds.response
        else:
            self.deadline = now + bounds.linger


class Connections:
    """All connections of one server. `make` returns aiohttp's protocol for a new one."""

    def __init__(self, make: Callable[[], web.RequestHandler], bounds: Bounds) -> None:
        self._make = make
        self.bounds = bounds
        self._loop = asyncio.get_running_loop()
        self._open: dict[web.RequestHandler, Connection] = {}
        self._deadline_sweep: asyncio.TimerHandle | None = None
        self._replaced = 0
        self._next_log = 0.0

    def factory(self, sock: socket.socket) -> Callable[[], Connection]:
        """The protocol factory for the loop's `create_server` on this socket."""
        return lambda: Connection(self, self._make(), sock.family)

    def of(self, request: web.BaseRequest) -> Connection | None:
        """The connection of this request; None when it is closed already."""
        return self._open.get(request.protocol)

    def now(self) -> float:
        return self._loop.time()

    def start(self) -> None:
        """Start the deadline sweep: close connections whose deadline has passed, and log replaced ones."""
        self._deadline_sweep = self._loop.call_later(self.bounds.deadline_sweep, self.start)
        now = self.now()
        for connection in tuple(self._open.values()):
            if now > connection.deadline:
                connection.transport.abort()
        if self._replaced and now >= self._next_log:
            log.warning("oldest admin connections closed", code="admin_connections_full", closed=self._replaced)
            self._replaced, self._next_log = 0, now + 60.0

    def stop(self) -> None:
        if self._deadline_sweep is not None:
            self._deadline_sweep.cancel()

    def admit(self, connection: Connection) -> bool:
        """Add a connection; return False when there is no room.

        At the limit it replaces another: one without a request or, if there is none, one whose request only reads.
        Among several, the one that has been in this state for longest is closed.
        """
        others = [other for other in self._open.values() if other.group == connection.group]
        if len(others) >= self.bounds.connections:
            self._replaced += 1
            least = min((c for c in others if not c.acts), key=lambda c: (c.in_request, c.since), default=None)
            if least is None:
                return False
            self._close(least)
        self._open[connection.handler] = connection
        return True

    def forget(self, connection: Connection) -> None:
        """Remove a connection that is closed."""
        self._open.pop(connection.handler, None)

    def limit_unsent(self) -> None:
        """Close the connections with most unsent bytes, while all together exceed `Bounds.unsent`."""
        unsent = {c: c.transport.get_write_buffer_size() for c in self._open.values()}
        while sum(unsent.values()) > self.bounds.unsent:
            most = max(unsent, key=lambda c: unsent[c])
            del unsent[most]
            self._close(most)

    def _close(self, connection: Connection) -> None:
        del self._open[connection.handler]
        connection.transport.abort()
