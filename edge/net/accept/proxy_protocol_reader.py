"""Reads the PROXY protocol header at the beginning of a connection, on a listener that asks for one.

    accepted ─► from a trusted network? ─► header ─► the next step, for the client that the header names
                      └─ no: closed          └─ invalid, or late: closed

A connection without a valid header is closed without a response: it does not speak HTTP yet. When the header names
no client (LOCAL, the proxy's own health check; UNKNOWN, which may be any client's), the address of the proxy stands
for the client's, and the forwarding fields of its requests are not trusted.
"""

import logging
from collections.abc import Callable
from math import inf

from edge.net.accept.accept_chain import InfoOf, NewConnection
from edge.net.transport.socket_state import has_input
from edge.net.worker_context import WorkerContext
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.http.proxy_protocol import BadProxyHeader, ProxiedClient, read_proxy_header

log = logging.getLogger("styx.proxy_protocol")


def proxies_only(context: WorkerContext, info_of: InfoOf) -> InfoOf:
    """Restrict `info_of` to trusted proxies: for any other client it returns None, which closes the connection."""

    def proxy_of(name: object) -> ClientInfo | None:
        info = info_of(name)
        if info is None or info.trusted:
            return info
        _count_rejected(context, info, "not in a trusted network")
        return None

    return proxy_of


def _count_rejected(context: WorkerContext, info: ClientInfo, why: str) -> None:
    log.debug(
        "connection without a valid PROXY header refused",
        extra={"code": "proxy_header_rejected", "client": info.address, "reason": why},
    )
    context.counts.refused += 1


class ProxyProtocolReader:
    """The accept step that reads the PROXY header of one connection. A member of the deadline sweep."""

    __slots__ = ("_connection", "_context", "_held", "_info_of_proxied", "_is_over", "deadline")

    def __init__(
        self,
        context: WorkerContext,
        connection: NewConnection,
        *,
        info_of_proxied: Callable[[ProxiedClient], ClientInfo],
    ) -> None:
        self._context = context
        self._connection = connection
        self._info_of_proxied = info_of_proxied
        self._held = b""
        self._is_over = False
        "Whether the header was read or rejected; later bytes are ignored."
        self.deadline = inf

    def __repr__(self) -> str:
        client = "nobody" if self._is_over else self._connection.info.address
        return f"<ProxyProtocolReader {client} {len(self._held)} bytes>"

    def begin(self, data: bytes) -> None:
        """Begin to read the header; the timeout is `timeouts.head`."""
        self.deadline = self._context.clock() + self._context.timeouts.head
        self._context.deadline_sweep.add(self)
        if data:
            self.data_received(data)

    def data_received(self, data: bytes) -> None:
        if self._is_over:
            return
        proxy = self._connection.info
        self._held += data
        try:
            read = read_proxy_header(self._held)
        except BadProxyHeader as error:
            self._reject(str(error))
            return
        if read is not None:
            proxied, used = read
            info = proxy.without_trust() if proxied is None else self._info_of_proxied(proxied)
            info.peer, info.peer_port = proxy.peer, proxy.peer_port
            self._go_on(info, self._held[used:])

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self._connection.connection_lost(exc)

    def eof_received(self) -> None:
        """Do nothing: the loop closes the connection."""

    def pause_writing(self) -> None:
        """Do nothing: this step writes nothing."""

    def resume_writing(self) -> None:
        """Do nothing: this step writes nothing."""

    def deadline_passed(self, now: float) -> None:
        """Reject a connection whose header is late. Called by the deadline sweep."""
        if not self._is_over:
            self._reject("timeout of the PROXY header")

    def stop(self) -> None:
        """Close the connection because the edge stops. Bytes that have arrived already are read first."""
        transport = self._connection.transport
        if not transport.is_closing() and not has_input(transport):
            transport.close()

    def drop(self) -> None:
        """Close the connection at once because the edge stops."""
        self._connection.transport.abort()

    def _go_on(self, info: ClientInfo, rest: bytes) -> None:
        """Count the connection as one of this client and begin the next step, unless it is beyond a limit."""
        self._end()
        if self._connection.admit(info):
            self._connection.begin_next(rest)

    def _reject(self, why: str) -> None:
        _count_rejected(self._context, self._connection.info, why)
        self._is_over = True
        self.deadline = inf
        self._connection.transport.abort()

    def _end(self) -> None:
        self._context.deadline_sweep.discard(self)
        self._is_over = True
        self.deadline = inf
