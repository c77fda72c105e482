"""The beginning of a connection whose listener asks for a PROXY header: who is it really?

    accepted ─► from a trusted network? ─► header ─► ClientConnection, for the client that the header names
                      └─ no: closed          └─ wrong, or late: closed

Nothing is answered to one that does it wrong: it does not speak HTTP to us yet. When a proxy does not say whose
connection it is (its own health check; UNKNOWN, which may be anybody's), its address stands for the client's, and
what that client says of itself is not believed.
"""

import asyncio
import logging
from collections.abc import Callable
from math import inf
from typing import cast

from edge.net.client_side import ClientConnection
from edge.net.entrance import Badge
from edge.net.lingering import turn_away
from edge.net.services import Services
from edge.net.transports import has_come
from edge.rules.hops import Peer
from edge.rules.proxy_header import BadProxyHeader, Proxied, read_proxy_header

log = logging.getLogger("styx.greeting")


class Greeting(asyncio.Protocol):
    """See the module."""

    __slots__ = ("_badge", "_held", "_peer_of", "_proxied_peer", "_proxy", "_services", "_transport", "due")

    def __init__(
        self,
        services: Services,
        peer_of: Callable[[object], Peer | None],
        proxied_peer: Callable[[Proxied], Peer],
    ) -> None:
        self._services = services
        self._peer_of = peer_of
        self._proxied_peer = proxied_peer
        self._proxy: Peer | None = None
        "None = nothing is read from it."
        self._badge: Badge | None = None
        self._transport: asyncio.Transport | None = None
        self._held = b""
        self.due = inf

    def __repr__(self) -> str:
        return f"<Greeting {self._proxy.address if self._proxy else 'nobody'} {len(self._held)} bytes>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        services = self._services
        services.counts.connections += 1
        services.counts.accepted += 1
        peer = self._peer_of(transport.get_extra_info("peername"))
        if peer is None:  # reset before it was accepted
            self._transport.abort()
            return
        if not peer.trusted:
            self._refuse(peer, "it is in no trusted network")
            return
        self._badge = services.entrance.admit(peer)
        if self._badge is None:
            turn_away(services, self._transport, peer)
            return
        self._proxy = peer
        self.due = services.clock() + services.timeouts.head
        services.sweep.add(self)

    def data_received(self, data: bytes) -> None:
        proxy = self._proxy
        if proxy is None:
            return
        self._held += data
        try:
            read = read_proxy_header(self._held)
        except BadProxyHeader as error:
            self._refuse(proxy, str(error))
            return
        if read is not None:
            proxied, used = read
            self._hand_over(proxy.stranger() if proxied is None else self._proxied_peer(proxied), self._held[used:])

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_go()

    def late(self, now: float) -> None:
        """The header did not come in time. Called by the sweep."""
        if self._proxy is not None:
            self._refuse(self._proxy, "the header did not come in time")

    def stop(self) -> None:
        """The edge stops. What has come already is read first."""
        if self._transport is not None and not self._transport.is_closing() and not has_come(self._transport):
            self._transport.close()

    def drop(self) -> None:
        """The edge stops now."""
        if self._transport is not None:
            self._transport.abort()

    def _hand_over(self, peer: Peer, rest: bytes) -> None:
        """From here on it is an ordinary connection of this peer: counted as its own, if there is room for it."""
        transport = self._transport
        assert transport is not None
        self._let_go()
        self._services.counts.accepted -= 1
        client = ClientConnection(self._services, lambda _: peer)
        transport.set_protocol(client)
        client.connection_made(transport)
        if rest:
            client.data_received(rest)

    def _refuse(self, peer: Peer, why: str) -> None:
        assert self._transport is not None
        log.debug("refused a connection of %s: %s", peer.address, why)
        self._services.counts.refused += 1
        self._proxy = None
        self.due = inf
        self._transport.abort()

    def _let_go(self) -> None:
        services = self._services
        services.sweep.discard(self)
        services.counts.connections -= 1
        services.entrance.leave(self._badge)
        self._badge = None
        self._proxy = None
        self.due = inf
