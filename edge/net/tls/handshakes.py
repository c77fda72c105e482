"""Counts the handshakes under way, and makes room for new ones.

A handshake under way holds 30 KiB, and anybody can begin one and leave it. So when there are `most`, one that has
waited for its client for `settling` seconds is given up for a new one; a client that answers takes less. When there
is none, the new one is rejected. (Those that wait for a certificate are not given up: it is not their client who is
slow.)
"""

from typing import Protocol


class PendingHandshake(Protocol):
    """A handshake under way."""

    def give_up(self) -> None:
        """Close the connection: another one needs its place."""


class Handshakes:
    """The handshakes under way of one worker."""

    __slots__ = ("_most", "_settling", "_under_way", "_waiting", "given_up", "rejected")

    def __init__(self, most: int, *, settling: float = 1.0) -> None:
        """`most`: 0 = any number."""
        self._most = most
        self._settling = settling
        self._under_way: set[PendingHandshake] = set()
        self._waiting: dict[PendingHandshake, float] = {}
        "Those that wait for their client, and since when; in this order."
        self.given_up = 0
        self.rejected = 0

    def __len__(self) -> int:
        return len(self._under_way)

    def reconfigure(self, most: int) -> None:
        """Apply this limit to new handshakes."""
        self._most = most

    def enter(self, handshake: PendingHandshake, now: float) -> bool:
        """Count a new handshake. False = there are too many."""
        if self._most and len(self._under_way) >= self._most and not self._make_room(now):
            self.rejected += 1
            return False
        self._under_way.add(handshake)
        return True

    def leave(self, handshake: PendingHandshake) -> None:
        """Count a handshake no longer. It may have left before."""
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
