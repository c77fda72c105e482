"""Debts of clients: a bounded table of leaky buckets, one for each client that has caused cost lately.

The owner of an IPv6 prefix can appear as any number of clients in it. So when more than `WIDENED_AT` /64s of one
/56 have debts, the /56 becomes one client with one debt; and when more than `WIDENED_AT` /56s of one /48 have, the
/48 does. The prefix is split up again when it has had no new debt for `memory` seconds.

             2001:db8:0:1::/64 ─┐
             2001:db8:0:2::/64 ─┼─ too many ─► 2001:db8::/56 ─┐
                            ... ┘                         ... ┴─ too many ─► 2001:db8::/48
"""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from edge.rules.limits.client_key import ClientKey, wider_prefixes

WIDENED_AT: Final = 8
"A home uses one to four /64s of its /56. Of 256 phones in a /56, rarely more than this many have debts by chance."


class Debt:
    """The debt of one client."""

    __slots__ = ("charges", "repaid_at", "until")

    def __init__(self) -> None:
        self.charges = 0
        "Number of charges since the debt was created."
        self.repaid_at = 0.0
        "Time at which all charges are repaid at the rate of the limit: a leaky bucket (ITU-T I.371)."
        self.until = 0.0
        "Time at which it is forgotten."


class ClientDebts:
    """Debts by client. At most `capacity`; beyond it, the debt charged longest ago is forgotten."""

    __slots__ = ("_capacity", "_debts", "_memory", "_narrower", "_widened_at")

    def __init__(self, *, capacity: int, memory: float, widened_at: int = WIDENED_AT) -> None:
        """`memory`: seconds after the last charge for which a debt is remembered."""
        self._capacity = capacity
        self._memory = memory
        self._widened_at = widened_at
        self._debts: OrderedDict[ClientKey, Debt] = OrderedDict()
        "In the order of their last charge: the first is forgotten first."
        self._narrower: dict[bytes, set[ClientKey]] = {}
        "For each prefix, the next narrower prefixes or clients with debts. Only for what is in `_debts`."

    def __len__(self) -> int:
        return len(self._debts)

    def __repr__(self) -> str:
        return f"<ClientDebts {len(self._debts)} of {self._capacity}>"

    def find(self, client: ClientKey, now: float) -> tuple[ClientKey, Debt | None]:
        """The client itself, or the wider prefix that has become one client; and its debt, or None."""
        for key in (client, *wider_prefixes(client)):
            debt = self._debts.get(key)
            if debt is not None and now < debt.until:
                return key, debt
        return client, None

    def all(self, now: float) -> Iterator[tuple[ClientKey, Debt]]:
        """All debts that are remembered."""
        return ((client, debt) for client, debt in self._debts.items() if now < debt.until)

    def charge(self, client: ClientKey, now: float, cost: float, *, most: float) -> None:
        """Add `cost` seconds to the client's debt. `most`: limit of the debt, in seconds, of a prefix that becomes
        one client."""
        self._forget_old(now)
        key, debt = self.find(client, now)
        if debt is None:
            if len(self._debts) >= self._capacity:
                self._forget(next(iter(self._debts)))
            debt = self._debts[key] = Debt()
            self._note_narrower(key)
        debt.repaid_at = max(debt.repaid_at, now) + cost
        debt.charges += 1
        debt.until = now + self._memory
        self._debts.move_to_end(key)
        for prefix in wider_prefixes(key):
            if len(self._narrower[prefix]) > self._widened_at:
                self._widen(prefix, now, most)

    def _widen(self, prefix: bytes, now: float, most: float) -> None:
        """Merge all clients with debts in a prefix into one."""
        whole = Debt()
        owed = 0.0
        for key in self._all_narrower(prefix):
            debt = self._debts[key]
            owed += max(0.0, debt.repaid_at - now)
            whole.charges += debt.charges
            self._forget(key)
        whole.repaid_at = now + min(owed, most)
        whole.until = now + self._memory
        self._debts[prefix] = whole
        self._note_narrower(prefix)

    def _all_narrower(self, prefix: bytes) -> list[ClientKey]:
        found: list[ClientKey] = []
        for key in self._narrower[prefix]:
            if key in self._debts:
                found.append(key)
            else:
                assert isinstance(key, bytes)
                found += self._all_narrower(key)
        return found

    def _forget_old(self, now: float) -> None:
        while self._debts:
            key, debt = next(iter(self._debts.items()))
            if now < debt.until:
                return
            self._forget(key)

    def _forget(self, key: ClientKey) -> None:
        del self._debts[key]
        for narrower, prefix in pairwise((key, *wider_prefixes(key))):
            assert isinstance(prefix, bytes)
            siblings = self._narrower[prefix]
            siblings.discard(narrower)
            if siblings:
                return
            del self._narrower[prefix]

    def _note_narrower(self, key: ClientKey) -> None:
        for narrower, prefix in pairwise((key, *wider_prefixes(key))):
            assert isinstance(prefix, bytes)
            self._narrower.setdefault(prefix, set()).add(narrower)
