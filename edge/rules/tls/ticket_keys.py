"""The keys of session tickets (RFC 5077; RFC 8446, section 4.6.1): one that new tickets are encrypted with, and the
one before it, whose tickets are still accepted.

    made ─► current ──rotated──► previous ──rotated──► forgotten

A ticket begins with the 16 bytes that name its key, in both versions of TLS. All workers of an edge accept the
tickets of each other. Who has a key can decrypt sessions that were resumed with its tickets in TLS 1.2, so keys are
short-lived, and kept in memory.
"""

import hmac
from typing import NamedTuple

NAME_SIZE, KEY_SIZE = 16, 80
"Bytes of the name of a key, and of a whole key: name, HMAC key, AES-256 key."


class TicketKey(NamedTuple):
    """A key, as OpenSSL takes it, and when it was made (Unix time)."""

    secret: bytes
    made_at: float

    @property
    def name(self) -> bytes:
        """The bytes with which its tickets begin."""
        return self.secret[:NAME_SIZE]

    def of_group(self, group: bytes) -> "TicketKey":
        """The key that is derived for this group of connections."""
        parts = (hmac.digest(self.secret, b"group %d %b" % (number, group), "sha256") for number in range(3))
        return TicketKey(b"".join(parts)[:KEY_SIZE], self.made_at)

    def __repr__(self) -> str:
        return f"<TicketKey {self.name.hex()[:8]}>"


class TicketKeys(NamedTuple):
    """The keys of now. Data: they are made before workers are forked, and handed on at reload and upgrade."""

    current: TicketKey
    previous: TicketKey | None = None
    others: tuple[TicketKey, ...] = ()
    "Whose tickets are accepted as well: those of other secrets (`ticket_secrets.py`)."

    @property
    def accepted(self) -> tuple[TicketKey, ...]:
        """All keys whose tickets are accepted."""
        return (self.current, *(() if self.previous is None else (self.previous,)), *self.others)

    def find(self, ticket: bytes) -> TicketKey | None:
        """The key that this ticket was made with; None = it is none of these."""
        for key in self.accepted:
            if ticket[:NAME_SIZE] == key.name:
                return key
        return None

    def due(self, period: float) -> float:
        """When the next key is due, if each is used for `period` seconds."""
        return self.current.made_at + period

    def of_group(self, group: bytes) -> "TicketKeys":
        """The keys for connections whose sessions must not be resumed by others: derived from these (HMAC-SHA256),
        so that all processes have the same ones."""
        before = None if self.previous is None else self.previous.of_group(group)
        return TicketKeys(self.current.of_group(group), before, tuple(key.of_group(group) for key in self.others))

    def rotated(self, secret: bytes, now: float) -> "TicketKeys":
        """The keys after a rotation: `secret` is the new one."""
        return TicketKeys(TicketKey(secret, now), self.current)
