"""Request ids (X-Request-Id) that no other worker makes: a random prefix, and a counter in hexadecimal."""

import secrets
from typing import Final

BATCH: Final = 0x1000
"Ids with the same beginning; the first one has this number, so that all have the digits of the table."
_DIGITS: Final = [b"%03x" % number for number in range(BATCH)]


class RequestIds:
    """Makes request ids. Their end is from a table, because formatting takes longer than all the rest."""

    __slots__ = ("_batch", "_beginning", "_number", "_prefix")

    def __init__(self) -> None:
        self._prefix = secrets.token_hex(6).encode("ascii")
        self._batch = 0
        "Number of this batch."
        self._number = BATCH
        "Number of the next id in this batch."
        self._beginning = b""

    def next(self) -> bytes:
        """A new id."""
        number = self._number
        if number == BATCH:
            number = 0
            self._batch += 1
            self._beginning = b"%b-%x" % (self._prefix, self._batch)
        self._number = number + 1
        return self._beginning + _DIGITS[number]
