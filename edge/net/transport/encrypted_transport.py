"""The interface of a TLS transport for code that needs the state of its socket."""

from collections.abc import Sequence


class EncryptedTransport:
    """A transport whose bytes are encrypted: what its socket holds is not what the other end wrote."""

    __slots__ = ()

    def unread(self, most: int) -> bytes:
        """As `socket_state.unread`, decrypted."""
        raise NotImplementedError

    def receive_pending(self) -> Sequence[object]:
        """Take in what the socket holds; the result is not empty when that is more than messages of TLS itself."""
        raise NotImplementedError
