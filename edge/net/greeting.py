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

from edge.net.accept_chain import InfoOf, NewConnection
from edge.net.services import Services
from edge.net.transports import has_come
from edge.rules.hops import Peer
from edge.rules.proxy_header import BadProxyHeader, Proxied, read_proxy_header

log = logging.getLogger("styx.greeting")


def proxies_only(services: Services, info_of: InfoOf) -> InfoOf:
    """`info_of` for a listener where nobody but a trusted proxy may connect."""

    def proxy_of(name: object) -> Peer | None:
        info = info_of(name)
        if info is None or info.trusted:
            return info
        _note_refused(services, info, "it is in no trusted network")
        return None

    return proxy_of


def _note_refused(services: Services, info: Peer, why: str) -> None:
    log.debug("refused a connection of %s: %s", info.address, why)
    services.counts.refused += 1


class Greeting:
    """See the module."""

    __slots__ = ("_connection", "_held", "_is_over", "_proxied_peer", "_services", "due")

    def __init__(
        self, services: Services, connection: NewConnection, *, proxied_peer: Callable[[Proxied], Peer]
    ) -> None:
        self._services = services
        self._connection = connection
        self._proxied_peer = proxied_peer
        self._held = b""
        self._is_over = False
        "Nothing is read from it any more."
        self.due = inf

    def __repr__(self) -> str:
        return f"<Greeting {'nobody' if self._is_over else self._connection.info.address} {len(self._held)} bytes>"

    def begin(self, data: bytes) -> None:
        """Read the header."""
        self.due = self._services.clock() + self._services.timeouts.head
        self._services.sweep.add(self)
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

    def late(self, now: float) -> None:
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

    def _go_on(self, info: Peer, rest: bytes) -> None:
        """From here on it is an ordinary connection of this client: counted as its own, if there is room for it."""
        self._end()
        if self._connection.admit(info):
            self._connection.begin_next(rest)

    def _refuse(self, why: str) -> None:
        _note_refused(self._services, self._connection.info, why)
        self._is_over = True
        self.due = inf
        self._connection.transport.abort()

    def _end(self) -> None:
        self._services.sweep.discard(self)
        self._is_over = True
        self.due = inf
