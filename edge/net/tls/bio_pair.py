"""The two memory BIOs through which OpenSSL gets and gives its bytes, one pair for all connections of a worker.

    socket ─► incoming ─► SSLObject ─► plaintext ─► application
    socket ◄─ outgoing ◄─ SSLObject ◄─ plaintext ◄─ application

A BIO never gives memory back: with a pair of its own, a connection that has sent 64 KiB once costs 92 KiB for as
long as it is idle, with a shared pair 15 KiB. The price is a rule: whoever uses the pair takes everything out of
both BIOs before anything else runs that may use it, such as the application, and clears them after every error.
(Bytes that are left would be read by the next connection, as its own.) A record that has not come whole is no
exception: OpenSSL takes its beginning out of the BIO and keeps it in the connection.
"""

import ssl


class BioPair:
    """The memory BIOs of one worker."""

    __slots__ = ("incoming", "outgoing")

    def __init__(self) -> None:
        self.incoming = ssl.MemoryBIO()
        "Bytes from the socket, for OpenSSL."
        self.outgoing = ssl.MemoryBIO()
        "Bytes from OpenSSL, for the socket."

    def __repr__(self) -> str:
        return f"<BioPair {self.incoming.pending} in, {self.outgoing.pending} out>"

    @property
    def is_empty(self) -> bool:
        """Whether both are empty, as they must be whenever the application is called."""
        return not (self.incoming.pending or self.outgoing.pending)

    def clear(self) -> bytes:
        """Empty both after an error, and return what OpenSSL wrote last: an alert, or nothing."""
        if self.incoming.pending:
            self.incoming.read()
        return self.outgoing.read() if self.outgoing.pending else b""
