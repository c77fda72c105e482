"""A site's slots are shared out among its clients once they get scarce.

    requests in flight   0 ────────────── half ──────────────────────── limit
                         anybody          who has less than a quarter    nobody
                                          (limits.slots_per_client)

Who holds how many is not counted while there are plenty: that would be work on the path of every request, and says
nothing. When half are taken, those in flight are counted once, and from then on each that begins or ends, until a
quarter are left. So one client alone gets half of the slots at most, and always leaves the other half to others.
"""

from collections.abc import Hashable, Iterable
from typing import NamedTuple

SCARCE = 0.5
"Part of the limit from which on slots are shared out."
PLENTY = 0.25
"Part of it below which they are not any more."
FEW = 4
"Slots that one client may have however small its part is: a browser loads a page over several connections."


class SlotLimits(NamedTuple):
    """Of one environment."""

    every: int
    "Requests in flight of all clients."
    shared_from: int
    "So many in flight are scarce."
    plenty: int
    each: int
    "Requests in flight of one client when they are scarce."

    @classmethod
    def of(cls, every: int, part: float) -> "SlotLimits":
        """`part`: of all slots, for one client."""
        each = max(FEW, int(every * part))
        return cls(every, max(1, int(every * SCARCE)) if each < every else every, int(every * PLENTY), each)


class SlotShares:
    """Who holds which slots of one environment. A client without a name is not counted: it may be anybody."""

    __slots__ = ("_client_of", "_slots")

    def __init__(self, held: Iterable[tuple[Hashable, Hashable]]) -> None:
        """`held`: each slot that is taken, and its client."""
        self._client_of: dict[Hashable, Hashable] = {}
        self._slots: dict[Hashable, int] = {}
        for slot, client in held:
            self.take(slot, client)

    def __len__(self) -> int:
        return len(self._client_of)

    def of(self, client: Hashable) -> int:
        """How many slots this client holds."""
        return self._slots.get(client, 0)

    def take(self, slot: Hashable, client: Hashable) -> None:
        """This client holds one more."""
        if client:
            self._client_of[slot] = client
            self._slots[client] = self._slots.get(client, 0) + 1

    def give_back(self, slot: Hashable) -> None:
        """It is free again."""
        client = self._client_of.pop(slot, None)
        if client is None:
            return
        left = self._slots[client] - 1
        if left:
            self._slots[client] = left
        else:
            del self._slots[client]
