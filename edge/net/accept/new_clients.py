"""Sets up each new connection of a listener: information about its client, and its accept chain."""

import ipaddress
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import Any, Final

from edge.net.accept.accept_chain import AcceptStep, InfoOf, NewConnection, Reject, StepFactory
from edge.net.accept.lingering_close import close_rejected, turn_away, turn_away_h2
from edge.net.accept.proxy_protocol_reader import ProxyProtocolReader, proxies_only
from edge.net.h1.h1_connection import H1Connection
from edge.net.h2.h2_connection import H2Connection
from edge.net.tls.tls_accept import TlsAccept
from edge.net.worker_context import WorkerContext
from edge.rules.http.hop_by_hop import ClientInfo, ClientInfos
from edge.rules.http.proxy_protocol import ProxiedClient
from edge.rules.settings import ListenerSettings
from edge.rules.tls.request_gate import AcmeProofs, HttpsRedirect, RequestGate

TRUST_MEMO: Final = 1024
"Addresses of which each listener remembers whether they are a trusted proxy's."


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


class NewClients:
    """Makes the protocol of each new connection of one socket."""

    __slots__ = (
        "_context",
        "_counts",
        "_info_of",
        "_infos",
        "_is_unix",
        "_port",
        "_reject",
        "_steps",
        "accepted",
        "is_trusted",
    )

    def __init__(self, is_unix: bool, port: int, settings: ListenerSettings, context: WorkerContext) -> None:
        """`is_unix`: whether it is a Unix socket; then `port` is 0."""
        forwarding = context.settings.forwarding
        self._context = context
        self._is_unix = is_unix
        self._port = port
        self.accepted = 0
        "Connections accepted so far."
        trusted = forwarding.trusted if settings.trusted is None else settings.trusted
        self.is_trusted: Any = lru_cache(TRUST_MEMO)(partial(_is_in_one_of, trusted)) if trusted else None
        """Whether an address is that of a trusted proxy; None = there are none. Proxies connect again and again,
        and the networks of a CDN take 8 microseconds to search."""
        self._counts = context.counts.of_listener(str(settings.address))
        self._infos = ClientInfos(
            port,
            via=forwarding.via_name.encode("ascii"),
            scheme=b"https" if settings.tls else b"http",
            gate=_gate(settings, context),
            counts=self._counts,
        )
        self._info_of: InfoOf = self.info_by_peername
        self._reject: Reject = close_rejected if settings.tls else turn_away_h2 if settings.http2 else turn_away
        "Ends a connection beyond a limit in the protocol that it speaks before anything was read from it."
        self._steps: tuple[StepFactory, ...] = (H2Connection if settings.http2 else H1Connection,)
        "The accept chain of a new connection, in this order."
        if settings.tls:
            self._steps = (_tls_step(settings, context), _by_alpn)
        if settings.proxy_protocol:
            self._info_of = proxies_only(context, self.info_by_peername)
            self._steps = (partial(ProxyProtocolReader, info_of_proxied=self._info_of_proxied), *self._steps)

    def connection(self) -> Any:
        """The protocol of a new connection. (Any: it is no subclass of asyncio's protocols.)"""
        self.accepted += 1
        self._counts.accepted += 1
        return NewConnection(self._context, self._info_of, self._steps, self._reject, self._counts)

    def info_by_peername(self, name: object) -> ClientInfo | None:
        """Information about the client with this `peername`; None = it was reset and has no address any more.

        A client on a Unix socket is local, and trusted.
        """
        if self._is_unix:
            return self._infos.of("127.0.0.1", 0, True, self._port)
        if not isinstance(name, tuple):
            return None
        address = _plain(str(name[0]))
        info = self._infos.of(address, int(name[1]), self._trusts(address), self._port)
        info.peer_port = info.client_port
        return info

    def _info_of_proxied(self, proxied: ProxiedClient) -> ClientInfo:
        """Information about the client that a PROXY header names."""
        trusted = self._trusts(proxied.address)
        return self._infos.of(proxied.address, proxied.client_port, trusted, proxied.port)

    def _trusts(self, address: str) -> bool:
        """Whether this is the address of a trusted proxy."""
        return self.is_trusted is not None and bool(self.is_trusted(address))


def _tls_step(settings: ListenerSettings, context: WorkerContext) -> StepFactory:
    assert context.tls is not None
    protocols = ("http/1.1",) if settings.http2 is False else ("h2", "http/1.1")
    asked = settings.verification
    verification = None if asked is None else context.tls.verifications[asked]
    return partial(TlsAccept, tls=context.tls, protocols=protocols, verification=verification)


def _is_in_one_of(networks: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network], address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in networks)


def _plain(address: str) -> str:
    """Strip the prefix that the address of an IPv4 client has on an IPv6 socket."""
    inner = address.removeprefix("::ffff:")
    return address if ":" in inner else inner
