"""OpenSSL contexts (SSL_CTX): the one with which a handshake begins, and the one of the host, with its certificate.

    ClientHello ─► base context, by the key of its ticket ─► SSLObject ─► sni_callback ─► context of the host

Versions, options, ticket keys and resumption are those of the *base* context, of which a worker has one for each
ticket key. Certificate, cipher list and ALPN are those of the *host's* context, which `sni_callback` puts in its
place in the middle of the handshake. A host's context costs 24 KiB and 1 to 2 ms: it is built in a thread, and the
`capacity` ones that were used last are kept.
"""

import asyncio
import os
import ssl
from collections.abc import Sequence
from concurrent.futures import Executor
from enum import Enum
from typing import NamedTuple

from cachetools import LRUCache

from edge.net.tls.ticket_key_setter import NoTicketKeys, ticket_key_setter
from edge.rules.tls.client_authorities import ClientAuthorities
from edge.rules.tls.ticket_keys import TicketKeys


class PemPair(NamedTuple):
    """A certificate chain, the site's own certificate first, and its private key; PEM."""

    chain: bytes
    key: bytes

    def __repr__(self) -> str:
        return "<PemPair>"  # never its key


class TlsProfile(Enum):
    """Mozilla's recommendations (Server Side TLS, version 6.0)."""

    INTERMEDIATE = "intermediate"
    MODERN = "modern"


_CIPHERS = ":".join(
    (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
    )
)
"Those of TLS 1.2 in both profiles; those of TLS 1.3 are OpenSSL's own, which are the profiles' too."
_MINIMUM = {TlsProfile.INTERMEDIATE: ssl.TLSVersion.TLSv1_2, TlsProfile.MODERN: ssl.TLSVersion.TLSv1_3}


class HostSslObject(ssl.SSLObject):
    """The SSLObject of a client's connection: it knows the context that its host gets."""

    host_context: ssl.SSLContext | None = None


def _take_host_context(tls: ssl.SSLObject, name: str | None, base: ssl.SSLContext) -> int | None:
    """Put the context of the host in the place of the base context. Called by OpenSSL at the ClientHello."""
    assert isinstance(tls, HostSslObject)
    if tls.host_context is None:
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    tls.context = tls.host_context
    return None


def base_context(profile: TlsProfile, authorities: ClientAuthorities | None = None) -> ssl.SSLContext:
    """A context that connections begin with. It has no certificate of its own. `authorities`: those whose
    certificates clients are asked for; None = they are asked for none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslobject_class = HostSslObject
    context.sni_callback = _take_host_context
    context.num_tickets = 1  # a second one costs 40 microseconds, and clients use one
    _harden(context, profile)
    if authorities is not None:
        context.verify_mode = ssl.CERT_REQUIRED if authorities.is_required else ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an intermediate may be all that is believed
    return context


def host_context(
    pairs: Sequence[PemPair],
    profile: TlsProfile,
    alpn: Sequence[str],
    authorities: ClientAuthorities | None = None,
) -> ssl.SSLContext:
    """The context of a host: one certificate of each kind of key, such as ECDSA and RSA. Takes 1 to 2 ms, mostly
    without the interpreter lock. `authorities`: as of `base_context`; the base decides whether clients are asked,
    the host's context whom OpenSSL believes. Raises ssl.SSLError when a key does not fit or PEM cannot be read,
    ValueError when there is no certificate or a key is encrypted."""
    if not pairs:
        raise ValueError("no certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _harden(context, profile)
    for pair in pairs:
        load_pair(context, pair)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if authorities is not None:
        context.load_verify_locations(cadata=authorities.pem)
    return context


def load_pair(context: ssl.SSLContext, pair: PemPair) -> None:
    """Give a context a certificate. `ssl` reads files only, so there is one for the moment, in memory: a key is
    never written to a disk (memfd_create(2)). Raises as `host_context`."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(b"%b\n%b" % (pair.chain, pair.key))
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
    finally:
        os.close(descriptor)


def _no_password() -> str:
    raise ValueError("the private key is encrypted")


def _harden(context: ssl.SSLContext, profile: TlsProfile) -> None:
    context.minimum_version = _MINIMUM[profile]
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.options &= (
        ~ssl.OP_CIPHER_SERVER_PREFERENCE
    )  # all are good: the client knows what its machine is fast at


class BaseContexts:
    """The base contexts of a worker: one for each ticket key, and one for all connections when keys cannot be set.

    `made_before_fork`: a context for that case; its own random key is then the same in all workers.
    """

    __slots__ = ("_authorities", "_by_key", "_current", "_profile", "why_no_keys")

    def __init__(
        self,
        profile: TlsProfile,
        keys: TicketKeys | None,
        made_before_fork: ssl.SSLContext | None = None,
        authorities: ClientAuthorities | None = None,
    ) -> None:
        """`authorities`: as of `base_context`. Their ticket keys are derived from `keys`, and are no others'."""
        self._profile = profile
        self._authorities = authorities
        self._current = made_before_fork or base_context(profile, authorities)
        self._by_key: dict[bytes, ssl.SSLContext] = {}
        "By the name of the ticket key."
        self.why_no_keys = ""
        "Why ticket keys cannot be set; empty = they can, or there are none."
        if keys is not None:
            self.rotate(keys)

    def rotate(self, keys: TicketKeys) -> None:
        """Make new tickets with `keys.current`, and accept those of the other keys. When keys cannot be set,
        nothing changes and `why_no_keys` tells why."""
        if self._authorities is not None:
            keys = keys.of_group(self._authorities.group)
        try:
            setter = ticket_key_setter()
            found: dict[bytes, ssl.SSLContext] = {}
            for key in keys.accepted:
                if key.name not in found:
                    known = self._by_key.get(key.name)
                    context = base_context(self._profile, self._authorities) if known is None else known
                    if known is None:
                        setter.set(context, key.secret)
                    found[key.name] = context
        except NoTicketKeys as error:
            self.why_no_keys = str(error)
            return
        self.why_no_keys = ""
        self._by_key = found
        self._current = found[keys.current.name]

    def choose(self, ticket: bytes) -> ssl.SSLContext:
        """The context for a ClientHello with this ticket; empty = it has none."""
        return self._by_key.get(ticket[:16], self._current) if ticket else self._current


class HostContexts:
    """The contexts of hosts, by certificate. At most `capacity`; beyond it the one unused for longest goes."""

    __slots__ = ("_building", "_contexts", "_executor", "_loop", "_profile", "built")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, executor: Executor, profile: TlsProfile, *, capacity: int = 5000
    ) -> None:
        """`executor`: one thread is enough, and more would only compete for the interpreter."""
        self._loop = loop
        self._executor = executor
        self._profile = profile
        self._contexts: LRUCache[object, ssl.SSLContext] = LRUCache(capacity)
        self._building: dict[object, asyncio.Future[ssl.SSLContext]] = {}
        self.built = 0
        "Contexts built so far."

    def __len__(self) -> int:
        return len(self._contexts)

    def find(self, identity: object) -> ssl.SSLContext | None:
        """The context of this certificate, if it is ready."""
        return self._contexts.get(identity)

    def discard(self, identity: object) -> None:
        """Drop the context of a certificate that is not used any more. Connections that have it keep it."""
        self._contexts.pop(identity, None)

    def close(self) -> None:
        """End the thread."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def build(
        self,
        identity: object,
        pairs: Sequence[PemPair],
        alpn: Sequence[str],
        authorities: ClientAuthorities | None = None,
    ) -> ssl.SSLContext:
        """The context of this certificate, built in a thread, once however many wait. Raises as `host_context`."""
        ready = self._contexts.get(identity)
        if ready is not None:
            return ready
        building = self._building.get(identity)
        if building is None:
            building = self._loop.run_in_executor(
                self._executor, host_context, pairs, self._profile, alpn, authorities
            )
            self._building[identity] = building
            building.add_done_callback(lambda done: self._keep(identity, done))
        return await asyncio.shield(building)  # who waits may leave; the others still wait

    def _keep(self, identity: object, done: "asyncio.Future[ssl.SSLContext]") -> None:
        del self._building[identity]
        if not done.cancelled() and done.exception() is None:
            self.built += 1
            self._contexts[identity] = done.result()
