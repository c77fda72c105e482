"""What a TLS handshake came to."""

from typing import NamedTuple


class HandshakeResult(NamedTuple):
    """A completed handshake."""

    version: str
    "`TLSv1.3` or `TLSv1.2`."
    resumed: bool
    alpn: str
    "The protocol that was agreed on; empty = none."
    cipher: str
    server_name: str | None
    seconds: float
    "Since the connection was accepted."
