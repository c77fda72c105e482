"""TLS to backends: the connection is established when the backend has proved that it is the one that is meant.

    dial ─► TCP ─► handshake: the certificate must be for `<backend id>.<suffix>` ─► H1Backend
                      └─ for another name, or of another CA: WrongBackendError, before any byte of a request

A container that moved leaves its port to another one, which has a valid certificate, too; so it is the id that is
checked, not the address. A full handshake with client certificates costs 3 to 4 ms, a resumed one 1.3 ms: which
session is used says `backend_sessions`.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from edge.net.balancing.backend_sessions import BackendSessions
from edge.net.tls.bio_pair import BioPair
from edge.net.tls.client_tls import ClientTls
from edge.net.tls.tls_transport import TlsTransport
from edge.rules.certificates.certificate_names import hostname_in

log = logging.getLogger("styx.backend_tls")

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
        "_tls",
        "failed",
        "handshakes",
        "resumed",
        "sessions",
        "wrong",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tls: ClientTls,
        names: str,
        bios: BioPair,
        sessions: BackendSessions,
    ) -> None:
        """`names`: the name in the certificate of a backend, with `{id}` for its id."""
        self._loop = loop
        self._tls = tls
        self._names = names
        self._bios = bios
        self.sessions = sessions
        self._reading: asyncio.Task[None] | None = None
        self._is_due = False
        "Whether the files are to be read, or to be read once more."
        self.handshakes = 0
        self.resumed = 0
        self.wrong = 0
        "Handshakes with something else than the backend that was meant."
        self.failed = 0
        "Handshakes that came to nothing for other reasons, such as the connect timeout."
        tls.on_change(sessions.forget)

    def __repr__(self) -> str:
        return f"<BackendTls {self._names} {self.sessions!r}>"

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
                    "client certificate not used",
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
            context, session = self._tls.context, self.sessions.session_for(name)
            tls = context.wrap_bio(self._bios.incoming, self._bios.outgoing, server_hostname=name, session=session)
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
            self.sessions.note_full_handshake(name, transport, session)
        made = connection()
        transport.set_protocol(cast(asyncio.BaseProtocol, made))
        made.connection_made(cast(asyncio.BaseTransport, transport))
        if early:  # before there was a request: the connection closes itself
            made.data_received(early)
        return made


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
