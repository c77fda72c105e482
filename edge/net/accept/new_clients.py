"""What each new connection of a listener gets: information about its client, and the steps that it passes."""

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
from edge.rules.http.hop_by_hop import ClientInfo
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
        "_gate",
        "_info_of",
        "_is_unix",
        "_port",
        "_reject",
        "_scheme",
        "_steps",
        "_via",
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
        self._via = forwarding.via_name.encode("ascii")
        self._scheme = b"https" if settings.tls else b"http"
        self._gate = _gate(settings, context)
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
        return NewConnection(self._context, self._info_of, self._steps, reject=self._reject, listener=self._counts)

    def info_by_peername(self, name: object) -> ClientInfo | None:
        """Information about the client with this `peername`; None = it was reset and has no address any more.

        A client on a Unix socket is local, and trusted.
        """
        if self._is_unix:
            return self._new_info("127.0.0.1", self._port, trusted=True)
        if not isinstance(name, tuple):
            return None
        info = self._client_info(_plain(str(name[0])), self._port, int(name[1]))
        info.peer_port = info.client_port
        return info

    def _info_of_proxied(self, proxied: ProxiedClient) -> ClientInfo:
        """Information about the client that a PROXY header names."""
        return self._client_info(proxied.address, proxied.port, proxied.client_port)

    def _client_info(self, address: str, port: int, client_port: int) -> ClientInfo:
        info = self._new_info(address, port, trusted=self.is_trusted is not None and self.is_trusted(address))
        info.client_port = client_port
        return info

    def _new_info(self, address: str, port: int, *, trusted: bool) -> ClientInfo:
        info = ClientInfo(address, port=port, trusted=trusted, via=self._via, scheme=self._scheme, gate=self._gate)
        info.listener = self._counts
        return info


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
