"""Changes the ticket keys of a worker when their time is over. A member of the deadline sweep.

All workers read the same clock and compute the same keys (`TicketChain`). One that changes a second later than the
others meets a ticket whose key it does not have yet: that client has a full handshake instead.
"""

from collections.abc import Callable

from edge.net.tls.tls_contexts import BaseContexts
from edge.rules.tls.ticket_chain import TicketChain

LOOK_EVERY = 1.0
"Seconds between two looks at the clock, at most."


class TicketRotation:
    """The rotation of one worker."""

    __slots__ = ("_bases", "_period", "_wall", "chain", "deadline")

    def __init__(self, bases: BaseContexts, chain: TicketChain, period: float, wall: Callable[[], float]) -> None:
        """`period`: seconds for which a key makes new tickets; its tickets are accepted for as long again. `wall`:
        Unix time."""
        self._bases = bases
        self.chain = chain
        self._period = period
        self._wall = wall
        self.deadline = 0.0

    def rotate(self) -> None:
        """Use the keys of now."""
        self.chain = self.chain.advanced(int(self._wall() // self._period))
        self._bases.rotate(self.chain.keys(self._period))

    def deadline_passed(self, now: float) -> None:
        """Rotate if it is time. Called by the deadline sweep."""
        self.deadline = now + LOOK_EVERY
        if int(self._wall() // self._period) > self.chain.epoch:
            self.rotate()
