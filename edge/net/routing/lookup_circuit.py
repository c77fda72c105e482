"""The circuit breaker of route lookups, with the known hostnames by which it tests the core API
(`circuit_breaker.py`)."""

from collections.abc import Callable, Container, Iterator
from itertools import islice
from typing import Protocol

from edge.rules.balancing.circuit_breaker import MOST_SEARCHED, OWNERS, CircuitBreaker, KnownHostname


class KnownHostnames(Protocol):
    """A table that knows some hostnames."""

    def recently_used(self) -> Iterator[KnownHostname]:
        """The known hostnames, the most recently used first."""
        ...

    def owner_of(self, hostname: str) -> str | None:
        """The owner of a known hostname; None = it is not known."""
        ...


class LookupCircuit:
    """The circuit breaker of one client of the core API."""

    def __init__(
        self,
        table: KnownHostnames,
        under_way: Container[str],
        *,
        start: Callable[[str], object],
        clock: Callable[[], float],
        rand: Callable[[], float],
    ) -> None:
        """`under_way`: the hostnames that are being looked up. `start`: starts the lookup of a known hostname."""
        self._table = table
        self._under_way = under_way
        self._start = start
        self._clock, self._rand = clock, rand
        self._breaker = CircuitBreaker()

    def __repr__(self) -> str:
        return f"<LookupCircuit {'open' if self.is_open else 'closed'}>"

    @property
    def is_open(self) -> bool:
        """Whether lookups are stopped."""
        return self._breaker.is_open

    def wait(self, now: float) -> float:
        """Seconds until a lookup may start; 0 = now."""
        return self._breaker.wait(now)

    def claim_lookup(self, hostname: str) -> bool:
        """Claim a lookup. Returns whether this one may start.

        Clients choose hostnames, so the half-open lookup is of a known one, if there is one, and of each owner in
        turn: it is started instead.
        """
        breaker, now = self._breaker, self._clock()
        if not breaker.is_open or breaker.wait(now):
            return breaker.claim_lookup(now)
        owner = self._table.owner_of(hostname)
        if owner is not None and not breaker.has_failed(owner):
            return breaker.claim_lookup(now)
        witness = breaker.witness(self._table.recently_used())
        if witness is None:
            breaker.forget_owners()
            witness = breaker.witness(self._table.recently_used())
        if witness is None:
            return breaker.claim_lookup(now)
        if witness not in self._under_way and breaker.claim_lookup(now):
            self._start(witness)
        return False

    def record_response(self) -> bool:
        """Record a response of the core API. Returns whether that closed the circuit."""
        was_open = self._breaker.is_open
        self._breaker.record_response()
        return was_open

    def record_failure(self, hostname: str, *, connected: bool) -> bool:
        """Record a failure of the service, and look up another hostname if this one may be the reason. `connected`:
        whether there was a connection. Returns whether that opened the circuit."""
        breaker, table = self._breaker, self._table
        owner, known = table.owner_of(hostname), table.recently_used()
        if breaker.record_failure(
            hostname, self._clock(), self._rand(), owner=owner, connected=connected, known=known
        ):
            return True
        witness = breaker.witness(table.recently_used()) if breaker.needs_witness else None
        if witness is not None and witness not in self._under_way:
            self._start(witness)
        return False

    def ask_witnesses(self) -> None:
        """Look up known hostnames until those of `OWNERS` owners are under way: the others, which got no response,
        may be the reason for that."""
        asked: set[str] = set()
        for hostname, owner in islice(self._table.recently_used(), MOST_SEARCHED):
            if len(asked) >= OWNERS:
                return
            if owner not in asked and not self._breaker.has_failed(owner):
                asked.add(owner)
                if hostname not in self._under_way:
                    self._start(hostname)
