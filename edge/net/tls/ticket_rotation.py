"""Rotates the session ticket keys of a worker. A member of the deadline sweep.

All workers read the same clock and compute the same keys (`TicketChain`). One that changes a second later than the
others meets a ticket whose key it does not have yet: that client has a full handshake instead.
"""

from collections.abc import Callable, Sequence

from edge.net.tls.client_verification import ClientVerification
from edge.net.tls.tls_contexts import BaseContexts
from edge.rules.tls.ticket_chain import TicketChain
from edge.rules.tls.ticket_keys import TicketKeys
from edge.rules.tls.ticket_secrets import TicketSecrets

LOOK_EVERY = 1.0
"Seconds between two looks at the clock, at most."


class TicketRotation:
    """The rotation of one worker."""

    __slots__ = ("_bases", "_period", "_verifications", "_wall", "chain", "deadline", "secrets")

    def __init__(
        self,
        bases: BaseContexts,
        chain: TicketChain,
        period: float,
        wall: Callable[[], float],
        verifications: Sequence[ClientVerification] = (),
    ) -> None:
        """`period`: seconds for which a key makes new tickets; its tickets are accepted for as long again. `wall`:
        Unix time. `verifications`: their base contexts rotate as well."""
        self._bases = bases
        self._verifications = verifications
        self.chain = chain
        self.secrets: TicketSecrets | None = None
        "Those that are shared with other edges, in place of the chain; `rotate` makes them count."
        self._period = period
        self._wall = wall
        self.deadline = 0.0

    @property
    def keys(self) -> TicketKeys:
        """The keys that are in use."""
        if self.secrets is not None:
            return self.secrets.keys(self.chain.epoch, self._period)
        return self.chain.keys(self._period)

    def rotate(self) -> None:
        """Use the keys of now."""
        self.chain = self.chain.advanced(int(self._wall() // self._period))
        keys = self.keys
        self._bases.rotate(keys)
        for verification in self._verifications:
            verification.rotate(keys)

    def deadline_passed(self, now: float) -> None:
        """Rotate if it is time. Called by the deadline sweep."""
        self.deadline = now + LOOK_EVERY
        if int(self._wall() // self._period) > self.chain.epoch:
            self.rotate()
