"""Divides the slots of an environment among its clients once they are scarce.

    requests in flight   0 ────────────── half ──────────────────────── limit
    a slot goes to       any client       clients with less than a      nobody
                                          quarter (slots_per_client)

The slots of each client are not counted while there are plenty: that would be work on the path of every request,
for no use. When half are taken, the requests in flight are counted once, and from then on each that begins or ends,
until less than a quarter are taken. So one client alone gets at most half of the slots, and leaves the other half
to others.
"""

from collections.abc import Hashable, Iterable
from typing import Final, NamedTuple

SCARCE: Final = 0.5
"Part of the limit at which slots become scarce."
PLENTY: Final = 0.25
"Part of the limit below which they are no longer scarce."
FEW: Final = 4
"Slots that one client may always have: a browser loads a page over several connections."


class SlotLimits(NamedTuple):
    """The limits of one environment, in requests in flight."""

    every: int
    "Limit for all clients together."
    shared_from: int
    "Slots are scarce from this number on."
    plenty: int
    "Slots are no longer scarce below this number."
    each: int
    "Limit for one client while slots are scarce."

    @classmethod
    def of(cls, every: int, part: float) -> "SlotLimits":
        """The limits for `every` slots in all, of which one client may have `part`."""
        each = max(FEW, int(every * part))
        return cls(every, max(1, int(every * SCARCE)) if each < every else every, int(every * PLENTY), each)


class SlotShares:
    """Counts the slots that each client holds in one environment. An unknown client (an empty key) is not
    counted."""

    __slots__ = ("_client_of", "_slots")

    def __init__(self, held: Iterable[tuple[Hashable, Hashable]]) -> None:
        """`held`: the slots that are taken, each with its client."""
        self._client_of: dict[Hashable, Hashable] = {}
        self._slots: dict[Hashable, int] = {}
        for slot, client in held:
            self.take(slot, client)

    def __len__(self) -> int:
        return len(self._client_of)

    def of(self, client: Hashable) -> int:
        """Number of slots that this client holds."""
        return self._slots.get(client, 0)

    def take(self, slot: Hashable, client: Hashable) -> None:
        """Count a slot for this client."""
        if client:
            self._client_of[slot] = client
            self._slots[client] = self._slots.get(client, 0) + 1

    def give_back(self, slot: Hashable) -> None:
        """Count a slot as free again."""
        client = self._client_of.pop(slot, None)
        if client is None:
            return
        left = self._slots[client] - 1
        if left:
            self._slots[client] = left
        else:
            del self._slots[client]
