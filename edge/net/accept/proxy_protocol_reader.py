"""The beginning of a connection whose listener asks for a PROXY header: who is it really?

    accepted ─► from a trusted network? ─► header ─► the next step, for the client that the header names
                      └─ no: closed          └─ wrong, or late: closed

Nothing is answered to one that does it wrong: it does not speak HTTP to us yet. When a proxy does not say whose
connection it is (its own health check; UNKNOWN, which may be anybody's), its address stands for the client's, and
what that client says of itself is not believed.
"""

import logging
from collections.abc import Callable
from math import inf

from edge.net.accept.accept_chain import InfoOf, NewConnection
from edge.net.transport.socket_state import has_come
from edge.net.worker_context import WorkerContext
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.http.proxy_protocol import BadProxyHeader, ProxiedClient, read_proxy_header

log = logging.getLogger("styx.greeting")


def proxies_only(context: WorkerContext, info_of: InfoOf) -> InfoOf:
    """`info_of` for a listener where nobody but a trusted proxy may connect."""

    def proxy_of(name: object) -> ClientInfo | None:
        info = info_of(name)
        if info is None or info.trusted:
            return info
        _note_refused(context, info, "it is in no trusted network")
        return None

    return proxy_of


def _note_refused(context: WorkerContext, info: ClientInfo, why: str) -> None:
    log.debug(
        "connection without a valid PROXY header",
        extra={"code": "proxy_header_rejected", "client": info.address, "reason": why},
    )
    context.counts.refused += 1


class ProxyProtocolReader:
    """See the module."""

    __slots__ = ("_connection", "_context", "_held", "_is_over", "_proxied_peer", "deadline")

    def __init__(
        self,
        context: WorkerContext,
        connection: NewConnection,
        *,
        proxied_peer: Callable[[ProxiedClient], ClientInfo],
    ) -> None:
        self._context = context
        self._connection = connection
        self._proxied_peer = proxied_peer
        self._held = b""
        self._is_over = False
        "Nothing is read from it any more."
        self.deadline = inf

    def __repr__(self) -> str:
        return f"<Greeting {'nobody' if self._is_over else self._connection.info.address} {len(self._held)} bytes>"

    def begin(self, data: bytes) -> None:
        """Read the header."""
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
            self._refuse(str(error))
            return
        if read is not None:
            proxied, used = read
            self._go_on(proxy.stranger() if proxied is None else self._proxied_peer(proxied), self._held[used:])

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        self._connection.connection_lost(exc)

    def eof_received(self) -> None:
        """The loop closes the connection."""

    def pause_writing(self) -> None:
        """Nothing is written."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def deadline_passed(self, now: float) -> None:
        """The header did not come in time. Called by the sweep."""
        if not self._is_over:
            self._refuse("the header did not come in time")

    def stop(self) -> None:
        """The edge stops. What has come already is read first."""
        transport = self._connection.transport
        if not transport.is_closing() and not has_come(transport):
            transport.close()

    def drop(self) -> None:
        """The edge stops now."""
        self._connection.transport.abort()

    def _go_on(self, info: ClientInfo, rest: bytes) -> None:
        """From here on it is an ordinary connection of this client: counted as its own, if there is room for it."""
        self._end()
        if self._connection.admit(info):
            self._connection.begin_next(rest)

    def _refuse(self, why: str) -> None:
        _note_refused(self._context, self._connection.info, why)
        self._is_over = True
        self.deadline = inf
        self._connection.transport.abort()

    def _end(self) -> None:
        self._context.deadline_sweep.discard(self)
        self._is_over = True
        self.deadline = inf
