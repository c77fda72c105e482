"""TLS with the edge as the client, to backends and to the core API: the CA to trust, and the edge's own
certificate.

The files may change at any time, as those of short-lived certificates do. `reload` reads them again, and the new
context is used from the next connection on; when they are no good, the old one stays.
"""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from edge.net.tls.tls_contexts import PemPair, load_pair


class ClientTlsFiles(NamedTuple):
    """Paths of PEM files."""

    ca: str | None
    "The certificates that are trusted, and no others; None = those of the system."
    certificate: str | None = None
    "The edge's own, with its chain; None = it has none."
    key: str | None = None


REFUSALS: Final = frozenset(
    {
        "ACCESS_DENIED",
        "BAD_CERTIFICATE",
        "CERTIFICATE_EXPIRED",
        "CERTIFICATE_REQUIRED",
        "CERTIFICATE_REVOKED",
        "CERTIFICATE_UNKNOWN",
        "UNKNOWN_CA",
        "UNSUPPORTED_CERTIFICATE",
    }
)
"Alerts with which a server refuses the certificate of a client, in the handshake (RFC 8446, section 6.2)."


def is_certificate_refusal(error: BaseException | None) -> bool:
    """Whether this end of a connection is an alert by which the other side refuses the edge's certificate."""
    if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLCertVerificationError):
        return False
    return (error.reason or "").partition("_ALERT_")[2] in REFUSALS  # such as TLSV13_ALERT_CERTIFICATE_REQUIRED


def client_context(files: ClientTlsFiles) -> ssl.SSLContext:
    """The context of a client: TLS 1.2 and 1.3, names checked. Reads files. Raises OSError, which ssl.SSLError is,
    or ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    if files.ca is None:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    else:
        context.load_verify_locations(cadata=Path(files.ca).read_text("ascii"))
    if files.certificate is not None and files.key is not None:
        load_pair(context, PemPair(Path(files.certificate).read_bytes(), Path(files.key).read_bytes()))
    return context


class ClientTls:
    """The context of now, from files."""

    __slots__ = ("_changed", "_files", "context")

    def __init__(self, files: ClientTlsFiles, context: ssl.SSLContext) -> None:
        self._files = files
        self.context = context
        "For the next connection."
        self._changed: list[Callable[[], None]] = []

    @property
    def paths(self) -> list[str]:
        """The files to watch."""
        return [path for path in self._files if path is not None]

    def on_change(self, call: Callable[[], None]) -> None:
        """Call this whenever `context` has changed: a session belongs to one context."""
        self._changed.append(call)

    async def reload(self) -> None:
        """Read the files again, in a thread. Raises as `client_context`, and then keeps the context."""
        self.context = await asyncio.to_thread(client_context, self._files)
        for call in self._changed:
            call()
