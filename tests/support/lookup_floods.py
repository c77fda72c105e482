"""Floods of made-up hostnames on a virtual clock, before the decisions of production.

Clients come with their addresses and hostnames; the core API has `slots` at once and answers after `latency`. Who
waits or is refused is decided by the limit and the queue of production; what these need of a loop is here.
"""

import heapq
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from math import inf
from random import Random
from typing import NamedTuple

from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.limits.lookup_queue import LookupQueue, WaitingLookup
from edge.rules.limits.unknown_host_limit import LookupCharge, LookupDecision, UnknownHostLimit
from edge.rules.routing.routes import Route
from edge.rules.settings import LimitSettings

NOW = (LookupDecision.RESERVED, LookupDecision.COMMON)
FOUND, UNKNOWN = Route(None), Route(None)
EXISTS = ".real"
"How the hostnames end that exist."


def charge_for(limit: UnknownHostLimit, client: ClientKey, now: float) -> None:
    """The client has named a hostname that does not exist."""
    decision = LookupDecision.COMMON if limit.has_debts(client, now) else LookupDecision.RESERVED
    limit.end(limit.begin(client, decision), now, unknown=True)


class Request(NamedTuple):
    """A request for a hostname that the worker does not know."""

    at: float
    kind: str
    address: str
    hostname: str


class Ended(NamedTuple):
    """How one ended: found, unknown, refused (429) or late (503), and after how many seconds."""

    kind: str
    how: str
    after: float


class Seen:
    """What came of a flood."""

    def __init__(self) -> None:
        self.ended: list[Ended] = []
        self.unknown_at: list[float] = []
        "When the core API was asked for hostnames that do not exist."
        self.most_waiting = self.most_debts = 0

    def share(self, kind: str, how: str = "found", within: float = 2.0) -> float:
        """The part of all requests of a kind that ended like this in time."""
        of_kind = [e for e in self.ended if e.kind == kind]
        return sum(e.how == how and e.after <= within for e in of_kind) / len(of_kind)

    def most_in(self, seconds: float) -> int:
        """Most lookups for hostnames that do not exist within a time."""
        most, window = 0, deque[float]()
        for at in self.unknown_at:
            window.append(at)
            while at - window[0] >= seconds:
                window.popleft()
            most = max(most, len(window))
        return most

    def how(self, kind: str) -> Counter[str]:
        return Counter(e.how for e in self.ended if e.kind == kind)


class _Flood:
    def __init__(self, limits: LimitSettings, latency: float, slots: int, timeout: float, capacity: int) -> None:
        self.seen = Seen()
        self.limit = UnknownHostLimit(limits)
        self.queue = LookupQueue(self.limit, capacity=capacity)
        self.latency, self.slots, self.timeout = latency, slots, timeout
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = count()
        self.now, self.due = 0.0, inf
        self.lines: tuple[deque[Callable[[], None]], ...] = (deque(), deque(), deque())
        self.asking: dict[str, list[Callable[[Route | None], None]]] = {}

    def at(self, when: float, deed: Callable[[], None]) -> None:
        heapq.heappush(self.events, (when, next(self.numbers), deed))

    def play(self, requests: Iterator[Request]) -> Seen:
        self._arrive_after(requests)
        while self.events:
            self.now, _, deed = heapq.heappop(self.events)
            deed()
            self.seen.most_waiting = max(self.seen.most_waiting, len(self.queue))
        return self.seen

    def _arrive_after(self, requests: Iterator[Request]) -> None:
        following = next(requests, None)
        if following is not None:
            self.at(following.at, partial(self._arrive, following, requests))

    def _arrive(self, request: Request, requests: Iterator[Request]) -> None:
        self._arrive_after(requests)
        client = client_key(request.address)
        done, refused = partial(self._end, request), partial(self._refuse, request)
        if request.hostname in self.asking:
            self.asking[request.hostname].append(done)
            return
        decision = self.limit.decide(client, self.now)
        if decision in NOW and not self.queue.has_line:
            self._begin(request.hostname, client, decision, done)
        elif decision is LookupDecision.REFUSED:
            refused()
        else:
            lookup = WaitingLookup(request.hostname, client, self.now + self.timeout, done, refused)
            pushed_out = self.queue.add(lookup, decision, self.now)
            if pushed_out is not None:
                pushed_out.done(None)
            if decision in NOW:
                self._look()
            else:
                self._look_later()

    def _begin(
        self, hostname: str, client: ClientKey, decision: LookupDecision, done: Callable[[Route | None], None]
    ) -> None:
        charge = self.limit.begin(client, decision)
        self.asking[hostname] = [done, *(lookup.done for lookup in self.queue.take_hostname(hostname))]
        self.lines[self.limit.priority(client, self.now)].append(partial(self._ask, hostname, charge))
        self._give_slots()

    def _give_slots(self) -> None:
        for line in self.lines:
            while line and self.slots:
                self.slots -= 1
                line.popleft()()

    def _ask(self, hostname: str, charge: LookupCharge) -> None:
        if not hostname.endswith(EXISTS):
            self.seen.unknown_at.append(self.now)
        self.at(self.now + self.latency, partial(self._answer, hostname, charge))

    def _answer(self, hostname: str, charge: LookupCharge) -> None:
        self.slots += 1
        exists = hostname.endswith(EXISTS)
        self.limit.end(charge, self.now, unknown=not exists)
        for done in self.asking.pop(hostname):
            done(FOUND if exists else UNKNOWN)
        self.queue.own_ended(charge.client)
        self._give_slots()
        self._look()

    def _look(self) -> None:
        for lookup in self.queue.take_expired(self.now):
            lookup.done(None)
        while (found := self.queue.take_next(self.now)) is not None:
            lookup, decision = found
            if decision is LookupDecision.REFUSED:
                lookup.refused()
            else:
                self._begin(lookup.hostname, lookup.client, decision, lookup.done)
        self._look_later()

    def _look_later(self) -> None:
        due = self.queue.next_at(self.now)
        if due is not None and max(due, self.now + 0.001) < self.due:
            self.due = max(due, self.now + 0.001)
            self.at(self.due, partial(self._look_if_due, self.due))

    def _look_if_due(self, due: float) -> None:
        if due == self.due:  # nor has an earlier one taken its place
            self.due = inf
            self._look()

    def _refuse(self, request: Request) -> None:
        self.seen.ended.append(Ended(request.kind, "refused", self.now - request.at))

    def _end(self, request: Request, route: Route | None) -> None:
        how = "late" if route is None else "found" if route is FOUND else "unknown"
        self.seen.ended.append(Ended(request.kind, how, self.now - request.at))


def stream(
    kind: str, rate: float, seconds: float, address: Callable[[int], str], hostname: str, *, begin: float = 0.0
) -> Iterator[Request]:
    """Requests of one kind, evenly spread; `hostname` has one {}, for a number."""
    for n in range(round(rate * seconds)):
        yield Request(begin + n / rate, kind, address(n), hostname.format(n))


def play(
    *streams: Iterable[Request],
    limits: LimitSettings | None = None,
    latency: float = 0.001,
    slots: int = 64,
    timeout: float = 5.0,
    capacity: int = 10_000,
) -> Seen:
    """Let all of these come, and wait for the last to end."""
    flood = _Flood(limits or LimitSettings(), latency, slots, timeout, capacity)
    return flood.play(heapq.merge(*streams))


def ipv4(number: int) -> str:
    """Addresses all over the world: every one in another network, as far as that goes."""
    bits = Random(number).getrandbits(32)
    return f"{bits >> 24}.{bits >> 16 & 255}.{bits >> 8 & 255}.{bits & 255}"
