"""Limits the rate of full handshakes of one client: each costs the edge a millisecond of CPU, and the client, who
need not finish it, almost nothing.

A client is an IPv4 address or an IPv6 /64, and a wider prefix when many /64s of it cause handshakes
(`ClientDebts`).
"""

from typing import Final

from edge.rules.limits.client_debts import ClientDebts
from edge.rules.limits.client_key import client_key

BURST: Final = 2.0
"Seconds of the rate that a client may have at once."
MEMORY: Final = 10.0
"Seconds for which a client without handshakes is remembered."


class HandshakeLimit:
    """A token bucket for each client."""

    __slots__ = ("_burst", "_debts", "_rate", "rejected")

    def __init__(self, rate: float, *, capacity: int = 10_000) -> None:
        """`rate`: handshakes per second; 0 = any number. `capacity`: clients that are remembered."""
        self.reconfigure(rate)
        self._debts = ClientDebts(capacity=capacity, memory=MEMORY)
        self.rejected = 0
        "Handshakes that were not allowed, so far."

    def reconfigure(self, rate: float) -> None:
        """Apply this limit to new handshakes."""
        self._rate = rate
        self._burst = max(1.0, rate * BURST)

    def __len__(self) -> int:
        """Clients that are remembered."""
        return len(self._debts)

    def take(self, address: str, now: float) -> bool:
        """Count a handshake of the client with this address. False = it has had too many."""
        if not self._rate:
            return True
        client = client_key(address)
        _, debt = self._debts.find(client, now)
        owed = 0.0 if debt is None else max(0.0, debt.repaid_at - now)
        if owed > (self._burst - 1) / self._rate + 1e-9:
            self.rejected += 1
            return False
        self._debts.charge(client, now, 1 / self._rate, most=self._burst / self._rate)
        return True
