"""TLS to backends: the connection is established when the backend has proved that it is the one that is meant.

    dial ─► TCP ─► handshake: the certificate must be for `<backend id>.<suffix>` ─► H1Backend
                      └─ for another name, or of another CA: WrongBackendError, before any byte of a request

A container that moved leaves its port to another one, which has a valid certificate, too; so it is the id that is
checked, not the address. A full handshake with client certificates costs 3 to 4 ms, a resumed one 1.3 ms; to get a
session from OpenSSL costs 0.4 ms, so one is fetched after a full handshake, and used for many connections.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from cachetools import LRUCache

from edge.net.tls.bio_pair import BioPair
from edge.net.tls.client_tls import ClientTls
from edge.net.tls.tls_transport import TlsTransport
from edge.rules.certificates.certificate_names import hostname_in

log = logging.getLogger("styx.backend_tls")

MOST_SESSIONS = 2000
"Backends whose sessions are kept; each takes some 4 KiB."

Dial = Callable[[Callable[[], Any]], Awaitable[tuple[Any, Any]]]
"Opens a connection for the protocol that this factory makes, as `loop.create_connection` does."


class WrongBackendError(OSError):
    """Whoever is there is not the backend that is meant."""


class BackendConnection(Protocol):
    """The protocol of a connection to a backend, such as `H1Backend`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...

    def data_received(self, data: bytes) -> None: ...


class BackendTls:
    """The TLS connections of a worker to its backends."""

    __slots__ = (
        "_bios",
        "_is_due",
        "_loop",
        "_names",
        "_reading",
        "_sessions",
        "_sources",
        "_tls",
        "failed",
        "handshakes",
        "resumed",
        "wrong",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, tls: ClientTls, names: str, bios: BioPair) -> None:
        """`names`: the name in the certificate of a backend, with `{id}` for its id."""
        self._loop = loop
        self._tls = tls
        self._names = names
        self._bios = bios
        self._sessions: LRUCache[str, ssl.SSLSession] = LRUCache(MOST_SESSIONS)
        "By name. Each was made in a full handshake, in which the name was checked."
        self._sources: LRUCache[str, TlsTransport] = LRUCache(MOST_SESSIONS)
        "Connections that had a full handshake, from which a session can be fetched."
        self._reading: asyncio.Task[None] | None = None
        self._is_due = False
        "Whether the files are to be read, or to be read once more."
        self.handshakes = 0
        self.resumed = 0
        self.wrong = 0
        "Handshakes with something else than the backend that was meant."
        self.failed = 0
        "Handshakes that came to nothing for other reasons, such as the connect timeout."
        tls.on_change(self.forget_sessions)

    def __repr__(self) -> str:
        return f"<BackendTls {self._names} {len(self._sessions)} sessions>"

    def forget_sessions(self) -> None:
        """Drop all sessions: they belong to a context that is not used any more."""
        self._sessions.clear()
        self._sources.clear()

    def read_again(self) -> None:
        """Read the files of the certificates again, in a thread. When they are no good, those from before are used
        on. Connections that are open stay."""
        self._is_due = True
        if self._reading is None or self._reading.done():
            self._reading = self._loop.create_task(self._read(), name="read backends.tls")

    async def _read(self) -> None:
        while self._is_due:
            self._is_due = False
            try:
                await self._tls.reload()
            except (OSError, ValueError) as error:
                log.error(
                    "credentials of styx not used",
                    extra={"code": "own_certificate_not_used", "setting": "backends.tls", "reason": str(error)},
                )

    def close(self) -> None:
        """Read nothing any more."""
        if self._reading is not None:
            self._reading.cancel()

    async def connect(self, backend_id: str, dial: Dial, connection: Callable[[], BackendConnection]) -> Any:
        """Connect, shake hands, and return the connection. Raises WrongBackendError, or another OSError."""
        name = hostname_in(self._names.replace("{id}", backend_id))
        if name is None:
            raise WrongBackendError("no certificate can name this backend: its id is no part of a hostname")
        handshake = _BackendHandshake(self._loop.create_future())
        raw, _ = await dial(lambda: handshake)
        try:
            context = self._tls.context
            tls = context.wrap_bio(
                self._bios.incoming, self._bios.outgoing, server_hostname=name, session=self._session_of(name)
            )
            transport = TlsTransport(raw, tls, self._bios)
            transport.begin(handshake, b"")
            early = await handshake.result
        except ssl.SSLCertVerificationError as error:
            self.wrong += 1
            raise WrongBackendError(error.verify_message) from error
        except BaseException:
            self.failed += 1
            raw.abort()
            raise
        self.handshakes += 1
        if tls.session_reused:
            self.resumed += 1
        elif context is self._tls.context:
            self._sessions.pop(name, None)
            self._sources[name] = transport
            transport.at_end = lambda: self._fetch(name, transport)
        made = connection()
        transport.set_protocol(cast(asyncio.BaseProtocol, made))
        made.connection_made(cast(asyncio.BaseTransport, transport))
        if early:  # before there was a request: the connection closes itself
            made.data_received(early)
        return made

    def _session_of(self, name: str) -> ssl.SSLSession | None:
        """The session for the next connection. (In TLS 1.3 it comes after the handshake.)"""
        source = self._sources.get(name)
        if source is not None:
            self._fetch(name, source)
        return self._sessions.get(name)

    def _fetch(self, name: str, source: TlsTransport) -> None:
        """Fetch the session of a connection, once it is there."""
        tls = source.get_extra_info("ssl_object")
        session = None if tls is None else tls.session
        if self._sources.get(name) is source and session is not None and session.has_ticket:
            del self._sources[name]
            source.at_end = None
            self._sessions[name] = session


class _BackendHandshake:
    """The protocol of a connection until its handshake is complete."""

    __slots__ = ("result",)

    def __init__(self, result: "asyncio.Future[bytes]") -> None:
        self.result = result

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Do nothing: the TLS transport takes over at once."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.handshake_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Do nothing: a backend says nothing before the ClientHello."""

    def eof_received(self) -> None:
        """Do nothing: the loop closes the connection."""

    def handshake_done(self, early: bytes) -> None:
        """The backend is the one that is meant."""
        if not self.result.done():
            self.result.set_result(early)

    def handshake_failed(self, error: Exception) -> None:
        """The backend is another one, or speaks another TLS."""
        if not self.result.done():
            self.result.set_exception(error)

    def handshake_lost(self, exc: Exception | None) -> None:
        """The connection ended in the handshake."""
        self.handshake_failed(exc or ConnectionResetError("closed in the TLS handshake"))
