"""The result of a TLS handshake."""


class HandshakeResult:
    """A completed handshake."""

    __slots__ = ("alpn", "resumed", "seconds", "server_name", "version")

    def __init__(self, version: str, *, resumed: bool, alpn: str, server_name: str | None, seconds: float) -> None:
        self.version = version
        "`TLSv1.3` or `TLSv1.2`."
        self.resumed = resumed
        self.alpn = alpn
        "The protocol that was agreed on; empty = none."
        self.server_name = server_name
        self.seconds = seconds
        "Since the connection was accepted."
