"""Queue of lookups of unknown hostnames that wait for room in a bucket, or for another lookup of their client (see
unknown_host_limit.py).

    without debts: network A ▏▏▏▏   network B ▏   network C ▏▏      ▏ is a client
    with debts:    network A ▏▏     network D ▏▏▏
    not in line:   clients that wait until a lookup of theirs has ended

Networks take turns. A new network goes before the others, and a new client goes before the others of its network.
More lookups may come than the core API can serve. In order of arrival, every client would then be served just
before it gives up; with the newest first, some are served at once (adaptive LIFO: B. Maurer, "Fail at Scale", ACM
Queue 13, 2015). Turns between networks keep one of them from taking the whole queue, as in fair queueing (fq_codel,
RFC 8290). Of one client, the oldest lookup goes first. Every operation takes constant time, however long the queue
is.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from edge.rules.limits.client_key import ClientKey, network_of, wider_prefixes
from edge.rules.limits.unknown_host_limit import LookupDecision, UnknownHostLimit
from edge.rules.routing.routes import Route

Done = Callable[[Route | None], None]
"Called with the route; None = the lookup failed."


class WaitingLookup:
    """One request that waits for a lookup. In the end, either `done` or `refused` is called, once."""

    __slots__ = ("client", "deadline", "done", "hostname", "refused", "waiter")

    def __init__(
        self, hostname: str, client: ClientKey, deadline: float, done: Done, refused: Callable[[], None]
    ) -> None:
        self.hostname = hostname
        self.client = client
        self.deadline = deadline
        self.done = done
        self.refused = refused
        self.waiter: _Waiter | None = None
        "The client's entry while the lookup is in the queue."

    def __repr__(self) -> str:
        return f"<WaitingLookup {self.hostname} of {self.client!r}>"


class NextLookup(NamedTuple):
    """A lookup that has left the queue, and its decision: RESERVED, COMMON or REFUSED."""

    lookup: WaitingLookup
    decision: LookupDecision


_DECIDED = frozenset({LookupDecision.RESERVED, LookupDecision.COMMON, LookupDecision.REFUSED})


class _Waiter:
    """A client with waiting lookups, the oldest first."""

    __slots__ = ("key", "line", "lookups")

    def __init__(self, key: ClientKey) -> None:
        self.key = key
        self.lookups: OrderedDict[WaitingLookup, None] = OrderedDict()
        self.line: _Line | None = None
        "None = it waits until a lookup of its own has ended."


class _Line:
    """A round-robin queue of clients by network."""

    __slots__ = ("_networks",)

    def __init__(self) -> None:
        self._networks: OrderedDict[ClientKey, OrderedDict[_Waiter, None]] = OrderedDict()
        "The first network is next, with its last client. No network is empty."

    def __bool__(self) -> bool:
        return bool(self._networks)

    def add(self, waiter: _Waiter, *, new: bool) -> None:
        """Add a client. `new`: before the others, instead of behind them."""
        network = network_of(waiter.key)
        waiters = self._networks.get(network)
        if waiters is None:
            waiters = self._networks[network] = OrderedDict()
            self._networks.move_to_end(network, last=not new)
        waiters[waiter] = None
        waiters.move_to_end(waiter, last=new)
        waiter.line = self

    def remove(self, waiter: _Waiter) -> None:
        network = network_of(waiter.key)
        waiters = self._networks[network]
        del waiters[waiter]
        if not waiters:
            del self._networks[network]
        waiter.line = None

    def first(self) -> _Waiter:
        return next(reversed(next(iter(self._networks.values()))))

    def end_turn(self, waiter: _Waiter) -> None:
        """Move a client that has had its turn, and its network, behind the others."""
        network = network_of(waiter.key)
        self._networks[network].move_to_end(waiter, last=False)
        self._networks.move_to_end(network)


class LookupQueue:
    """The queue of one worker. Beyond `capacity`, the lookup that has waited longest is removed."""

    __slots__ = ("_by_hostname", "_capacity", "_common", "_limit", "_order", "_reserved", "_waiters")

    def __init__(self, limit: UnknownHostLimit, *, capacity: int = 10_000) -> None:
        self._limit = limit
        self._capacity = capacity
        self._reserved, self._common = _Line(), _Line()
        self._waiters: dict[ClientKey, _Waiter] = {}
        self._order: OrderedDict[WaitingLookup, None] = OrderedDict()
        "All waiting lookups, the oldest first."
        self._by_hostname: dict[str, OrderedDict[WaitingLookup, None]] = {}

    def __len__(self) -> int:
        return len(self._order)

    @property
    def has_line(self) -> bool:
        """Whether a client waits for room in a bucket. Then a new lookup has to wait as well, or it would overtake
        those in line."""
        return bool(self._reserved or self._common)

    @property
    def hostnames(self) -> int:
        """Number of hostnames that wait to be looked up."""
        return len(self._by_hostname)

    def has_hostname(self, hostname: str) -> bool:
        """Whether a lookup of this hostname waits."""
        return hostname in self._by_hostname

    def add(self, lookup: WaitingLookup, decision: LookupDecision, now: float) -> WaitingLookup | None:
        """Enqueue a lookup as was decided. Returns the lookup that was removed for it, if the queue is full."""
        key = self._limit.counted_as(lookup.client, now)
        waiter = self._waiters.get(key)
        if waiter is None:
            waiter = self._waiters[key] = _Waiter(key)
            if decision is not LookupDecision.AFTER_OWN:
                self._line_for(lookup, now).add(waiter, new=True)
        lookup.waiter = waiter
        waiter.lookups[lookup] = None
        self._order[lookup] = None
        self._by_hostname.setdefault(lookup.hostname, OrderedDict())[lookup] = None
        if len(self._order) <= self._capacity:
            return None
        oldest = next(iter(self._order))
        self._remove(oldest)
        return oldest

    def _line_for(self, lookup: WaitingLookup, now: float) -> _Line:
        return self._common if self._limit.has_debts(lookup.client, now) else self._reserved

    def _remove(self, lookup: WaitingLookup) -> None:
        waiter = lookup.waiter
        assert waiter is not None
        lookup.waiter = None
        del waiter.lookups[lookup]
        if not waiter.lookups:
            del self._waiters[waiter.key]
            if waiter.line is not None:
                waiter.line.remove(waiter)
        del self._order[lookup]
        same = self._by_hostname[lookup.hostname]
        del same[lookup]
        if not same:
            del self._by_hostname[lookup.hostname]

    def discard(self, lookup: WaitingLookup) -> None:
        """Remove a lookup, if it is still in the queue."""
        if lookup.waiter is not None:
            self._remove(lookup)

    def take_next(self, now: float) -> NextLookup | None:
        """Remove and return the next lookup that is to be made or refused now; None = none is."""
        for line, goes_on in (
            (self._reserved, LookupDecision.AFTER_RESERVED),
            (self._common, LookupDecision.AFTER_COMMON),
        ):
            while line:
                waiter = line.first()
                lookup = next(iter(waiter.lookups))
                decision = self._limit.decide(lookup.client, now)
                if decision in _DECIDED:
                    line.end_turn(waiter)
                    self._remove(lookup)
                    return NextLookup(lookup, decision)
                if decision is goes_on:
                    break
                line.remove(waiter)
                if decision is not LookupDecision.AFTER_OWN:
                    self._line_for(lookup, now).add(waiter, new=False)
        return None

    def own_ended(self, client: ClientKey) -> None:
        """Record that a lookup in flight of this client has ended: a client that waits for that joins the line."""
        for key in (client, *wider_prefixes(client)):
            waiter = self._waiters.get(key)
            if waiter is not None and waiter.line is None:
                self._reserved.add(waiter, new=False)

    def take_hostname(self, hostname: str) -> list[WaitingLookup]:
        """Remove and return all lookups of this hostname."""
        found = list(self._by_hostname.get(hostname, ()))
        for lookup in found:
            self._remove(lookup)
        return found

    def take_expired(self, now: float) -> Iterator[WaitingLookup]:
        """Remove and yield the lookups whose deadline has passed."""
        while self._order:
            oldest = next(iter(self._order))
            if now < oldest.deadline:
                return
            self._remove(oldest)
            yield oldest

    def take_all(self) -> list[WaitingLookup]:
        """Remove and return all lookups."""
        found = list(self._order)
        for lookup in found:
            self._remove(lookup)
        return found

    def next_at(self, now: float) -> float | None:
        """When `take_next` or `take_expired` may have a result, if no lookup ends before; None = the queue is
        empty."""
        if not self._order:
            return None
        next_at = next(iter(self._order)).deadline
        for line, decision in (
            (self._reserved, LookupDecision.AFTER_RESERVED),
            (self._common, LookupDecision.AFTER_COMMON),
        ):
            if line:
                next_at = min(next_at, now + self._limit.room_in(decision, now))
        return next_at
