"""Rate limit of lookups of unknown hostnames: which client may cause one, and which is charged if there is no site.

A lookup that finds its hostname is free, so a client with a thousand sites may open them all. One that finds
nothing is a debt of its client, which is repaid at the rate `limits.unknown_hosts_per_client` and remembered for a
minute. Made-up names come mostly from clients that have sent others before, so the lookups of a worker are charged
to two leaky buckets, each with the rate `limits.unknown_hosts`:

    client without debts ──► reserved ──► common, while it has room ──► wait (lookup_queue.py)
    client with debts    ──────────────► common ──────────────────────► 429
    over its own limit   ─────────────────────────────────────────────► 429

So clients with debts, however many, cannot use up the room of the others, and the core API gets at most twice
`limits.unknown_hosts` lookups a second of hostnames that do not exist. A lookup counts as a debt while it is in
flight, but no client is refused for that: a client that is limited by lookups in flight waits until they end.
One case cannot be told apart: people, and a hundred thousand addresses that send one hostname a minute each. Then
networks take turns, and most lookups from networks with many such addresses wait until they time out.
A leaky bucket is one number (ITU-T I.371). A part of the common one is reserved for clients with few debts, as
telephone exchanges reserve trunks (trunk reservation). Caddy's `on_demand_tls.ask` and Envoy's on-demand discovery
have no limit at all.
"""

from collections.abc import Callable
from enum import Enum, IntEnum
from math import inf
from typing import NamedTuple

from edge.rules.limits.client_debts import ClientDebts
from edge.rules.limits.client_key import ClientKey, wider_prefixes
from edge.rules.settings import LimitSettings


class LookupPriority(IntEnum):
    """The priority of a lookup; lower goes first."""

    KNOWN = 0
    "A hostname that is known to exist."
    WITHOUT_DEBTS = 1
    WITH_DEBTS = 2


class LookupDecision(Enum):
    """Whether and when a lookup of an unknown hostname is made."""

    RESERVED = "now, from the reserved bucket"
    COMMON = "now, from the common bucket"
    AFTER_OWN = "when another lookup of this client has ended"
    AFTER_RESERVED = "when the reserved bucket has room"
    AFTER_COMMON = "when the common bucket has room"
    REFUSED = "not at all"


class LookupCharge(NamedTuple):
    """A lookup in flight, and the client and bucket that are charged if it finds nothing."""

    client: ClientKey
    reserved: bool


class Debtor(NamedTuple):
    """A client that has asked for unknown hostnames within the last minute."""

    charges: int
    "How many were looked up."
    at_limit: bool
    "Whether further ones wait, or are refused."


class _Bucket:
    """A leaky bucket that holds what leaks in one second. A rate of 0 = no limit."""

    __slots__ = ("in_flight", "repaid_at")

    def __init__(self) -> None:
        self.repaid_at = 0.0
        self.in_flight = 0

    def level(self, now: float) -> float:
        """Seconds until it is empty."""
        return max(0.0, self.repaid_at - now)

    def fill(self, now: float, rate: float) -> None:
        if rate:
            self.repaid_at = max(self.repaid_at, now) + 1.0 / rate


class UnknownHostLimit:
    """The limit of one worker."""

    __slots__ = (
        "_bucket_depth",
        "_burst",
        "_common",
        "_debts",
        "_few_debts",
        "_few_in_flight",
        "_in_flight",
        "_limits",
        "_reserved",
        "ended",
    )

    def __init__(
        self,
        limits: LimitSettings,
        *,
        burst: float = 10.0,
        bucket_depth: float = 1.0,
        few_in_flight: int = 4,
        few_debts: int = 3,
        memory: float = 60.0,
        capacity: int = 20_000,
    ) -> None:
        """`burst` and `bucket_depth`: size of the buckets of one client, and of all, in seconds of their rate.
        `few_in_flight`: lookups of one client that the reserved bucket admits at the same time. `few_debts`:
        unknown hostnames up to which a client may use the last half of the common bucket. `memory`: seconds for
        which debts are remembered. `capacity`: clients with debts; the default rates allow 12,000 in a minute.
        """
        self._limits = limits
        self._burst = burst
        self._bucket_depth = bucket_depth
        self._few_in_flight = few_in_flight
        self._few_debts = few_debts
        self._debts = ClientDebts(capacity=capacity, memory=memory)
        self._reserved, self._common = _Bucket(), _Bucket()
        self._in_flight: dict[ClientKey, int] = {}
        "Lookups in flight by client, and by each wider prefix."
        self.ended: list[Callable[[ClientKey], None]] = []
        """Called with the client of each lookup that has ended. Lookups of routes and of certificates are counted
        together, and wait in queues of their own."""

    def __repr__(self) -> str:
        in_flight = self._reserved.in_flight + self._common.in_flight
        return f"<UnknownHostLimit debts={len(self._debts)} in_flight={in_flight}>"

    def reconfigure(self, limits: LimitSettings) -> None:
        """Apply these limits from now on."""
        self._limits = limits

    def counted_as(self, client: ClientKey, now: float) -> ClientKey:
        """The client, or the wider prefix as which it is counted (see client_debts.py)."""
        return self._debts.find(client, now)[0]

    def debtors(self, now: float) -> dict[ClientKey, Debtor]:
        """The clients with debts."""
        rate = self._limits.unknown_hosts_per_client
        most = self._burst - 1.0 / rate if rate else inf
        return {client: Debtor(debt.charges, debt.repaid_at - now > most) for client, debt in self._debts.all(now)}

    def decide(self, client: ClientKey, now: float) -> LookupDecision:
        """Whether and when an unknown hostname is looked up for this client. "" = an unknown client."""
        account, debt = self._debts.find(client, now)
        in_flight = self._in_flight.get(account, 0)
        own_rate = self._limits.unknown_hosts_per_client if client else 0.0
        owed = 0.0 if debt is None else max(0.0, debt.repaid_at - now)
        if own_rate and owed > self._burst:
            return LookupDecision.REFUSED
        own_room = not own_rate or owed + in_flight / own_rate <= self._burst
        few = in_flight < self._few_in_flight
        if debt is None and own_room and few and self._has_room(self._reserved, self._bucket_depth, now):
            return LookupDecision.RESERVED
        depth = self._common_depth(debt.charges if debt is not None else 0)
        if own_room and self._has_room(self._common, depth, now):
            return LookupDecision.COMMON
        if debt is None:
            return LookupDecision.AFTER_RESERVED if own_room and few else LookupDecision.AFTER_OWN
        if self._limits.unknown_hosts and self._common.level(now) > depth:
            return LookupDecision.REFUSED
        return LookupDecision.AFTER_COMMON if own_room else LookupDecision.AFTER_OWN

    def _common_depth(self, charges: int) -> float:
        return self._bucket_depth if charges <= self._few_debts else self._bucket_depth / 2

    def _has_room(self, bucket: _Bucket, depth: float, now: float) -> bool:
        rate = self._limits.unknown_hosts
        return not rate or bucket.level(now) + bucket.in_flight / rate <= depth

    def begin(self, client: ClientKey, decision: LookupDecision) -> LookupCharge:
        """Count a lookup as in flight, in the bucket of the decision (RESERVED or COMMON)."""
        charge = LookupCharge(client, decision is LookupDecision.RESERVED)
        for key in (client, *wider_prefixes(client)):
            self._in_flight[key] = self._in_flight.get(key, 0) + 1
        (self._reserved if charge.reserved else self._common).in_flight += 1
        return charge

    def end(self, charge: LookupCharge, now: float, *, unknown: bool) -> None:
        """Record the end of a lookup, and charge it if `unknown`: there is no such hostname, or the lookup failed
        because of the hostname."""
        for key in (charge.client, *wider_prefixes(charge.client)):
            left = self._in_flight[key] - 1
            if left:
                self._in_flight[key] = left
            else:
                del self._in_flight[key]
        bucket = self._reserved if charge.reserved else self._common
        bucket.in_flight -= 1
        if unknown:
            bucket.fill(now, self._limits.unknown_hosts)
            rate = self._limits.unknown_hosts_per_client
            self._debts.charge(charge.client, now, 1.0 / rate if rate else 0.0, most=self._burst)
        for call in self.ended:
            call(charge.client)

    def room_in(self, decision: LookupDecision, now: float) -> float:
        """Seconds until a bucket has room for the clients that wait for it (AFTER_RESERVED or AFTER_COMMON), if no
        lookup ends meanwhile."""
        reserved = decision is LookupDecision.AFTER_RESERVED
        bucket = self._reserved if reserved else self._common
        rate = self._limits.unknown_hosts
        depth = self._bucket_depth if reserved else self._bucket_depth / 2
        return max(0.0, bucket.level(now) + bucket.in_flight / rate - depth) if rate else 0.0

    def has_debts(self, client: ClientKey, now: float) -> bool:
        """Whether a lookup for this client has found nothing within the last `memory` seconds."""
        return self._debts.find(client, now)[1] is not None

    def priority(self, client: ClientKey, now: float) -> LookupPriority:
        """The priority of a lookup for this client."""
        return LookupPriority.WITH_DEBTS if self.has_debts(client, now) else LookupPriority.WITHOUT_DEBTS
