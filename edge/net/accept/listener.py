"""Opens listening sockets and accepts client connections on them."""

import asyncio
import errno
import ipaddress
import os
import select
import socket
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import Any

from edge.net.accept.accept_chain import AcceptStep, InfoOf, NewConnection, Reject, StepFactory
from edge.net.accept.accept_queue import AcceptQueue, accept_queue
from edge.net.accept.lingering_close import close_rejected, turn_away, turn_away_h2
from edge.net.accept.proxy_protocol_reader import ProxyProtocolReader, proxies_only
from edge.net.h1.h1_connection import H1Connection
from edge.net.h2.h2_connection import H2Connection
from edge.net.tls.tls_accept import TlsAccept
from edge.net.transport.tcp_keepalive import set_keepalive
from edge.net.worker_context import WorkerContext
from edge.rules.http.hop_by_hop import ClientInfo, ClientInfos
from edge.rules.http.proxy_protocol import ProxiedClient
from edge.rules.settings import ListenerSettings, TimeoutSettings
from edge.rules.settings.values import Address
from edge.rules.tls.request_gate import AcmeProofs, HttpsRedirect, RequestGate

PRIVILEGED = (
    " (low ports need root or CAP_NET_BIND_SERVICE: AmbientCapabilities= in systemd, or the sysctl "
    "net.ipv4.ip_unprivileged_port_start)"
)


TRUST_MEMO = 1024
"Addresses of which each listener remembers whether they are a trusted proxy's."
_FILE_STAYS: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
"The file of a Unix socket is removed by the process that bound it, because other workers accept on it, too."


def open_listener(address: Address, *, beside: bool = False, private: bool = False) -> socket.socket:
    """Open and bind a socket; the caller makes it listen. Raises OSError with the address in its text.

    `beside`: one more socket for an address that this edge holds already; the kernel gives it a share of the
    connections. The first socket is bound without SO_REUSEPORT, so that it fails on an address where another
    process listens: with it, the address would be shared silently with another styx. `private`: the file of a Unix
    socket is accessible to its owner only, from its creation on.
    """
    if address.path:
        return _open_unix(address.path, 0o177 if private else None)
    host = address.host or "::"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if not address.host else 1)
        if beside:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, address.port))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        hint = PRIVILEGED if error.errno == errno.EACCES else ""
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}{hint}") from error
    return sock


def _open_unix(path: str, mask: int | None) -> socket.socket:
    """Open and bind a Unix socket, with `mask` as umask. A stale socket file, whose process is gone, is replaced; a
    file that is in use, or belongs to another user, is not. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_stale(path):
            os.unlink(path)
        with _umask(mask):
            sock.bind(path)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on unix:{path}: {error.strerror or error}") from error
    return sock


def _is_stale(path: str) -> bool:
    """Whether this path is a socket, not a link to one, that belongs to this user or root and has no listener."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in (os.geteuid(), 0):
        return False
    # Non-blocking: the accept queue may be full when the owner is stalled.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        return probe.connect_ex(path) == errno.ECONNREFUSED


@contextmanager
def _umask(mask: int | None) -> Iterator[None]:
    if mask is None:
        yield
        return
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _by_alpn(context: WorkerContext, connection: NewConnection) -> AcceptStep:
    """The HTTP connection for the protocol that the TLS handshake has settled on (RFC 7301)."""
    is_h2 = connection.tls is not None and connection.tls.alpn == "h2"
    return H2Connection(context, connection) if is_h2 else H1Connection(context, connection)


def _gate(settings: ListenerSettings, context: WorkerContext) -> RequestGate | None:
    """The gate of all connections of a listener; None = there is none, or it depends on their certificate."""
    gate = HttpsRedirect(settings.redirect_to_https) if settings.redirect_to_https else None
    if context.challenges is None or settings.tls:
        return gate
    return AcmeProofs(context.challenges, gate)


class Listener:
    """Accepts client connections on one socket.

    The loop accepts one connection in each of its turns; the listener accepts those queued behind it along with it,
    for at most `budget` seconds. A poll for queued connections takes 0.3 microseconds. (Several loop handles on one
    socket would cost 2.4 microseconds per handle for each connection that comes alone; an accept loop of our own
    instead of the loop's, 12.)
    """

    def __init__(
        self, sock: socket.socket, settings: ListenerSettings, context: WorkerContext, *, budget: float = 0.001
    ) -> None:
        name, forwarding = sock.getsockname(), context.settings.forwarding
        self.port = int(name[1]) if isinstance(name, tuple) else 0
        "The port of the socket; 0 for a Unix socket."
        self._sock = sock
        self._context = context
        self._budget = budget
        self.accepted = 0
        "Connections accepted so far."
        self._server: asyncio.Server | None = None
        self._beginning: set[asyncio.Task[None]] = set()
        "Accepted connections that are not attached to their protocol yet."
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        self._poll_queue = poll.poll
        "Called with 0 ms: whether a connection is queued. (An accept in vain costs many times as much.)"
        self._backlog = settings.backlog
        trusted = forwarding.trusted if settings.trusted is None else settings.trusted
        self._is_trusted = lru_cache(TRUST_MEMO)(partial(_is_in_one_of, trusted)) if trusted else None
        """Whether an address is that of a trusted proxy; None = there are none. Proxies connect again and again,
        and the networks of a CDN take 8 microseconds to search."""
        self._counts = context.counts.of_listener(str(settings.address))
        self._info_of: InfoOf = self._info_by_peername
        self._reject: Reject = close_rejected if settings.tls else turn_away_h2 if settings.http2 else turn_away
        "Ends a connection beyond a limit in the protocol that it speaks before anything was read from it."
        self._steps: tuple[StepFactory, ...] = (H2Connection if settings.http2 else H1Connection,)
        "The accept chain of a new connection, in this order."
        if settings.tls:
            assert context.tls is not None
            protocols = ("http/1.1",) if settings.http2 is False else ("h2", "http/1.1")
            asked = settings.verification
            verification = None if asked is None else context.tls.verifications[asked]
            tls = partial(TlsAccept, tls=context.tls, protocols=protocols, verification=verification)
            self._steps = (tls, _by_alpn)
        if settings.proxy_protocol:
            self._info_of = proxies_only(context, self._info_by_peername)
            self._steps = (partial(ProxyProtocolReader, info_of_proxied=self._info_of_proxied), *self._steps)
        self._infos = ClientInfos(
            self.port,
            via=forwarding.via_name.encode("ascii"),
            scheme=b"https" if settings.tls else b"http",
            gate=_gate(settings, context),
            counts=self._counts,
        )
        self.reconfigure(context.timeouts)

    def reconfigure(self, timeouts: TimeoutSettings) -> None:
        """Set TCP keep-alive and user timeout for clients that connect from now on."""
        set_keepalive(self._sock, timeouts.unacknowledged, stall=timeouts.write_stall)

    @property
    def queue(self) -> AcceptQueue | None:
        """The accept queue now; None = unknown, as for a Unix socket."""
        return accept_queue(self._sock)

    async def start(self) -> None:
        """Begin to accept."""
        loop = self._context.loop
        # The loop calls listen() again: without `backlog` it would reduce the queue to its default of 100.
        if self._sock.family == socket.AF_UNIX:
            self._server = await loop.create_unix_server(
                self._accepted, sock=self._sock, backlog=self._backlog, **_FILE_STAYS
            )
        else:
            self._server = await loop.create_server(self._accepted, sock=self._sock, backlog=self._backlog)

    async def stop(self) -> None:
        """Accept all queued connections, then stop accepting. Established connections stay.

        When the last descriptor of a listening socket is closed, the kernel resets the connections in its queue.
        """
        if self._server is None:
            return
        with suppress(OSError):
            for _ in range(self._backlog):
                if not self._poll_queue(0):
                    break
                self._begin(self._sock.accept()[0])
        self._server.close()
        self._server = None
        if self._beginning:
            await asyncio.wait(self._beginning)

    def _accepted(self) -> Any:
        """Return the protocol for a connection that the loop has accepted, and accept those queued behind it."""
        self._accept_others()
        return self._connection()

    def _accept_others(self) -> None:
        if not self._poll_queue(0):
            return
        clock, limit = self._context.clock, self._context.connection_limiter.accepted_at_once
        end = clock() + self._budget
        with suppress(OSError):  # too many open files: try again with the next connection
            while len(self._beginning) < limit and self._poll_queue(0) and clock() < end:
                self._begin(self._sock.accept()[0])

    def _begin(self, accepted: socket.socket) -> None:
        task = self._context.loop.create_task(self._hand_over(accepted), name="begin a connection")
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _hand_over(self, accepted: socket.socket) -> None:
        try:
            await self._context.loop.connect_accepted_socket(self._connection, accepted)
        except OSError:  # reset by the client meanwhile
            accepted.close()

    def _connection(self) -> Any:
        """The protocol of a new connection. (Any: it is no subclass of asyncio's protocols.)"""
        self.accepted += 1
        self._counts.accepted += 1
        return NewConnection(self._context, self._info_of, self._steps, self._reject, self._counts)

    def _info_by_peername(self, name: object) -> ClientInfo | None:
        """Information about the client with this `peername`; None = it was reset and has no address any more.

        A client on a Unix socket is local, and trusted.
        """
        if self._sock.family == socket.AF_UNIX:
            return self._infos.of("127.0.0.1", 0, True, self.port)
        if not isinstance(name, tuple):
            return None
        address = _plain(str(name[0]))
        info = self._infos.of(address, int(name[1]), self._trusts(address), self.port)
        info.peer_port = info.client_port
        return info

    def _info_of_proxied(self, proxied: ProxiedClient) -> ClientInfo:
        """Information about the client that a PROXY header names."""
        trusted = self._trusts(proxied.address)
        return self._infos.of(proxied.address, proxied.client_port, trusted, proxied.port)

    def _trusts(self, address: str) -> bool:
        """Whether this is the address of a trusted proxy."""
        return self._is_trusted is not None and self._is_trusted(address)


def _is_in_one_of(networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network], address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in networks)


def _plain(address: str) -> str:
    """Strip the prefix that the address of an IPv4 client has on an IPv6 socket."""
    inner = address.removeprefix("::ffff:")
    return address if ":" in inner else inner
