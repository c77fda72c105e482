"""A chain of ticket keys, one for each period of time: all processes that have the chain derive the same keys
without communicating.

    secret 0 ──one way──► secret 1 ──one way──► secret 2 ...        a secret is forgotten when the next one is there
        └─► key 0             └─► key 1             └─► key 2       HMAC-SHA256 (RFC 2104) makes both

A process that has forgotten a secret cannot compute its key any more, so what was recorded before stays secret when
the process is broken into. The chain begins with random bytes when an edge starts; it is data, made before workers
are forked and handed on to new ones and to the next master.
"""

import hmac
from typing import NamedTuple

from edge.rules.tls.ticket_keys import KEY_SIZE, TicketKey, TicketKeys

SECRET_SIZE = 32
_EPOCH_SIZE = 8


class BadTicketChain(ValueError):
    """What should be a chain of ticket keys is not."""


class TicketChain(NamedTuple):
    """The state of the chain in one period of time, an *epoch*."""

    secret: bytes
    epoch: int
    "The number of the period, since the beginning of Unix time."
    previous: bytes = b""
    "The key of the epoch before; empty = there was none."

    def __repr__(self) -> str:
        return f"<TicketChain in epoch {self.epoch}>"

    def advanced(self, epoch: int) -> "TicketChain":
        """The chain in this epoch. A clock that went back changes nothing."""
        secret, previous = self.secret, self.previous
        for at in range(self.epoch, epoch):
            if at >= epoch - 1:
                previous = _key_of(secret)
            secret = _derived(secret, b"next secret")
        return TicketChain(secret, max(epoch, self.epoch), previous)

    def keys(self, period: float) -> TicketKeys:
        """The ticket keys of this epoch, which is `period` seconds long."""
        current = TicketKey(_key_of(self.secret), self.epoch * period)
        before = TicketKey(self.previous, (self.epoch - 1) * period) if self.previous else None
        return TicketKeys(current, before)

    def encode(self) -> bytes:
        """As bytes, for another process."""
        return self.epoch.to_bytes(_EPOCH_SIZE) + self.secret + self.previous


def decode_ticket_chain(data: bytes) -> TicketChain:
    """Read what `encode` made. Raises BadTicketChain."""
    if len(data) not in (_EPOCH_SIZE + SECRET_SIZE, _EPOCH_SIZE + SECRET_SIZE + KEY_SIZE):
        raise BadTicketChain(f"{len(data)} bytes")
    secret = data[_EPOCH_SIZE : _EPOCH_SIZE + SECRET_SIZE]
    return TicketChain(secret, int.from_bytes(data[:_EPOCH_SIZE]), data[_EPOCH_SIZE + SECRET_SIZE :])


def _key_of(secret: bytes) -> bytes:
    parts = (_derived(secret, b"ticket key %d" % number) for number in range(3))
    return b"".join(parts)[:KEY_SIZE]


def _derived(secret: bytes, label: bytes) -> bytes:
    return hmac.digest(secret, label, "sha256")
