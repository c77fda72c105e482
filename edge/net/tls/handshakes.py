"""Counts the handshakes of a worker, and makes room for new ones.

    hello ─► certificate and context are ready ──────────► under way: OpenSSL holds 30 KiB
         └─► `ask`: waits for them; anybody can make up a name ─┘

Anybody can begin a handshake and leave it. So when `most` are under way, one that has waited for its client for
`settling` seconds is given up for a new one; a client that answers takes less. When there is none, the new one is
rejected. Those that wait for a certificate are counted apart, or a flood of made-up names would lock out the
clients of names that are known: at most as many wait, and beyond it the one that has waited longest is given up.
(Who has asked for few unknown names is served first, and waits least.)
"""

from typing import Protocol


class PendingHandshake(Protocol):
    """A handshake under way."""

    def give_up(self) -> None:
        """Close the connection: another one needs its place."""


class Handshakes:
    """The handshakes under way of one worker."""

    __slots__ = ("_asking", "_most", "_settling", "_under_way", "_waiting", "given_up", "rejected")

    def __init__(self, most: int, *, settling: float = 1.0) -> None:
        """`most`: 0 = any number."""
        self._most = most
        self._settling = settling
        self._asking: dict[PendingHandshake, None] = {}
        "Those that wait for a certificate; in this order."
        self._under_way: set[PendingHandshake] = set()
        self._waiting: dict[PendingHandshake, float] = {}
        "Those that wait for their client, and since when; in this order."
        self.given_up = 0
        self.rejected = 0

    def __len__(self) -> int:
        return len(self._under_way) + len(self._asking)

    def reconfigure(self, most: int) -> None:
        """Apply this limit to new handshakes."""
        self._most = most

    def ask(self, handshake: PendingHandshake) -> None:
        """Count one that waits for a certificate."""
        if self._most and len(self._asking) >= self._most:
            oldest = next(iter(self._asking))
            del self._asking[oldest]
            self.given_up += 1
            oldest.give_up()
        self._asking[handshake] = None

    def enter(self, handshake: PendingHandshake, now: float) -> bool:
        """Count one that begins. False = there are too many."""
        self._asking.pop(handshake, None)
        if self._most and len(self._under_way) >= self._most and not self._make_room(now):
            self.rejected += 1
            return False
        self._under_way.add(handshake)
        return True

    def leave(self, handshake: PendingHandshake) -> None:
        """Count a handshake no longer. It may have left before."""
        self._asking.pop(handshake, None)
        self._under_way.discard(handshake)
        self._waiting.pop(handshake, None)

    def wait_for_client(self, handshake: PendingHandshake, now: float) -> None:
        """The edge has done its part: the client is next."""
        if handshake in self._under_way:
            self._waiting.setdefault(handshake, now)

    def _make_room(self, now: float) -> bool:
        handshake, since = next(iter(self._waiting.items()), (None, now))
        if handshake is None or since > now - self._settling:
            return False
        self.leave(handshake)
        self.given_up += 1
        handshake.give_up()
        return True
