"""Generates request ids (X-Request-Id), unique across workers: a random prefix, and a counter in hexadecimal."""

import secrets
from typing import Final

BATCH: Final = 0x100
"Ids that are made at once."
_DIGITS: Final = [b"%02x" % number for number in reversed(range(BATCH))]


class RequestIds:
    """Makes request ids in batches, because formatting one takes as long as three from a table."""

    __slots__ = ("_batches", "_prefix", "ready")

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6).encode("ascii")
        self._batches = 0
        self.ready: list[bytes] = []
        "Unused ids of this batch, the next one last. Each request pops one, and calls `refill` if there is none."

    def refill(self) -> list[bytes]:
        """Make a batch, and return it."""
        self._batches += 1
        beginning = b"%b-%x" % (self._prefix, self._batches)
        self.ready = [beginning + digits for digits in _DIGITS]
        return self.ready

    def next(self) -> bytes:
        """A new id."""
        return (self.ready or self.refill()).pop()
