"""The keys of session tickets (RFC 5077; RFC 8446, section 4.6.1): one that new tickets are encrypted with, and the
one before it, whose tickets are still accepted.

    made ─► current ──rotated──► previous ──rotated──► forgotten

A ticket begins with the 16 bytes that name its key, in both versions of TLS. All workers, and all edges that share
a file of keys, accept the tickets of each other. Who has a key can decrypt sessions that were resumed with its
tickets in TLS 1.2, so keys are short-lived, and kept in memory.
"""

from typing import NamedTuple

NAME_SIZE, KEY_SIZE = 16, 80
"Bytes of the name of a key, and of a whole key: name, HMAC key, AES-256 key."
MOST_KEYS = 2


class TicketKey(NamedTuple):
    """A key, as OpenSSL takes it, and when it was made (Unix time)."""

    secret: bytes
    made_at: float

    @property
    def name(self) -> bytes:
        """The bytes with which its tickets begin."""
        return self.secret[:NAME_SIZE]

    def __repr__(self) -> str:
        return f"<TicketKey {self.name.hex()[:8]}>"


class BadTicketKeys(ValueError):
    """What should be ticket keys is not."""


class TicketKeys(NamedTuple):
    """The keys of now. Data: they are made before workers are forked, and handed on at reload and upgrade."""

    current: TicketKey
    previous: TicketKey | None = None

    def find(self, ticket: bytes) -> TicketKey | None:
        """The key that this ticket was made with; None = it is none of these."""
        for key in self:
            if key is not None and ticket[:NAME_SIZE] == key.name:
                return key
        return None

    def due(self, period: float) -> float:
        """When the next key is due, if each is used for `period` seconds."""
        return self.current.made_at + period

    def rotated(self, secret: bytes, now: float) -> "TicketKeys":
        """The keys after a rotation: `secret` is the new one."""
        return TicketKeys(TicketKey(secret, now), self.current)

    def encode(self) -> bytes:
        """As the content of a file: 80 bytes each, the current one first (as `ssl_session_ticket_key` of nginx)."""
        return b"".join(key.secret for key in self if key is not None)


def decode_ticket_keys(data: bytes, made_at: float) -> TicketKeys:
    """Read keys from the content of a file. Raises BadTicketKeys: a file that is cut short, or holds one key twice,
    would silently end resumption."""
    count, rest = divmod(len(data), KEY_SIZE)
    if rest or not count:
        raise BadTicketKeys(f"{len(data)} bytes: a multiple of {KEY_SIZE} is expected")
    found = [data[at * KEY_SIZE : (at + 1) * KEY_SIZE] for at in range(count)]
    if len({secret[:NAME_SIZE] for secret in found}) < count:
        raise BadTicketKeys("two keys have the same name")
    if any(len(set(secret)) < MOST_KEYS for secret in found):
        raise BadTicketKeys("a key is not random: all its bytes are the same")
    keys = [TicketKey(secret, made_at) for secret in found[:MOST_KEYS]]
    return TicketKeys(keys[0], keys[1] if len(keys) > 1 else None)
