"""Secrets from which several edges derive the same ticket keys: parses the file of them that all edges share.

    file:  one secret in a line, the first makes tickets, those of all are accepted
    key of a period of time = HMAC-SHA256 (RFC 2104) of a secret and the number of the period

Unlike `TicketChain`, a key of yesterday can be computed as long as its secret is there. So secrets are to be
replaced: a new one is added as a second line on each edge, then becomes the first on each, then the old one goes.
All edges accept the tickets of each other all the while.
"""

import hmac
from typing import Final, NamedTuple

from edge.rules.tls.ticket_keys import KEY_SIZE, TicketKey, TicketKeys

SHORTEST: Final = 43
"Characters of a secret: 32 random bytes in Base64."
LONGEST_FILE: Final = 16 * 1024
MOST_SECRETS: Final = 4


class BadTicketSecrets(ValueError):
    """A file cannot be used as one of secrets. The message shows nothing of them."""


class TicketSecrets(NamedTuple):
    """The secrets of a file, in its order."""

    secrets: tuple[bytes, ...]

    def __repr__(self) -> str:
        return f"<TicketSecrets {len(self.secrets)}>"

    def keys(self, epoch: int, period: float) -> TicketKeys:
        """The ticket keys in this period of time, which is `period` seconds long, and the `epoch`-th since the
        beginning of Unix time."""
        current, before, *others = (
            _key(secret, number, period) for secret in self.secrets for number in (epoch, epoch - 1)
        )
        return TicketKeys(current, before, tuple(others))


def ticket_secrets(content: bytes) -> TicketSecrets:
    """Read a file: secrets in lines; empty lines and those that begin with # are ignored. Raises
    BadTicketSecrets."""
    if len(content) > LONGEST_FILE:
        raise BadTicketSecrets(f"longer than {LONGEST_FILE} bytes")
    found: list[bytes] = []
    for number, line in enumerate(content.split(b"\n"), 1):
        secret = line.strip()
        if not secret or secret.startswith(b"#"):
            continue
        if len(secret) < SHORTEST or len(set(secret)) < 8:
            raise BadTicketSecrets(f"line {number}: no random secret of at least {SHORTEST} characters")
        if secret in found:
            raise BadTicketSecrets(f"line {number}: the secret of an earlier line")
        found.append(secret)
    if not 0 < len(found) <= MOST_SECRETS:
        raise BadTicketSecrets(
            f"{len(found)} secrets, not 1 to {MOST_SECRETS}: one in a line (openssl rand -hex 32)"
        )
    return TicketSecrets(tuple(found))


def _key(secret: bytes, epoch: int, period: float) -> TicketKey:
    parts = (hmac.digest(secret, b"styx ticket key %d of %d" % (number, epoch), "sha256") for number in range(3))
    return TicketKey(b"".join(parts)[:KEY_SIZE], epoch * period)
