"""The unit that shares containers: what was learned about them, and what may be spent on retries."""

from math import inf
from weakref import WeakValueDictionary

from cachetools import LRUCache

from edge.rules.balancing.demerits import Demerits
from edge.rules.balancing.expect_support import ExpectMemory
from edge.rules.balancing.health_events import CLEAR, SUSPECT, HealthEvents
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.balancing.pending_queue import PendingQueue
from edge.rules.balancing.retries import RetryBudget
from edge.rules.balancing.server_failures import ServerFailures
from edge.rules.limits.slot_shares import SlotShares
from edge.rules.settings import DemeritSettings, RetrySettings


class Environment:
    """One site's dev, test or live. All its hostnames share this, and it outlives their routes."""

    __slots__ = (
        "__weakref__",
        "asked_at",
        "asker",
        "book",
        "budget",
        "expect_memory",
        "in_flight",
        "mixed_at",
        "name",
        "requests",
        "room",
        "seen",
        "servers",
        "shared_from",
        "site",
        "slots",
    )

    def __init__(
        self, site: str, name: str, *, book: Demerits, budget: RetryBudget, servers: ServerFailures | None = None
    ) -> None:
        self.site = site
        self.servers = servers or ServerFailures()
        "All of the worker's."
        self.name = name
        self.book = book
        self.budget = budget
        self.requests = 0
        "Requests since it was first seen; the retry budget fills with them."
        self.room = PendingQueue()
        self.expect_memory = ExpectMemory()
        self.in_flight = 0
        "Requests in hand."
        self.shared_from = 0
        "With so many in hand it matters whose they are; 0 = it is to be looked up, or they are counted already."
        self.slots: SlotShares | None = None
        "Whose they are, while that matters."
        self.asked_at = 0.0
        "When the last of them came."
        self.asker = ""
        "Which client sent it."
        self.mixed_at = -inf
        "When a request came last that was of another client than the one before it."
        self.seen = 0.0
        "When the core API last confirmed a route to it."


class Environments:
    """The environments in use, and others up to `demerits.capacity`.

    There is never more than one of a name: while a route, an exchange or a reconnect has one, it is the one. What
    was learned about it is forgotten after `demerits.forget_after` idle seconds.
    """

    __slots__ = ("_demerits", "_in_hand", "_known", "_retries", "servers", "shared")

    def __init__(self, demerits: DemeritSettings, retries: RetrySettings) -> None:
        self._demerits = demerits
        self._retries = retries
        self.servers = ServerFailures()
        self.shared = HealthEvents()
        self._known: LRUCache[tuple[str, str], Environment] = LRUCache(demerits.capacity)
        self._in_hand: WeakValueDictionary[tuple[str, str], Environment] = WeakValueDictionary()
        "All that anybody has, also those that `_known` had no room for."

    def __len__(self) -> int:
        return len(self._known)

    def reconfigure(self, demerits: DemeritSettings, retries: RetrySettings) -> None:
        """Go on by these settings; nothing that was learned is lost. `demerits.capacity` stays as it was."""
        self._demerits = demerits
        self._retries = retries
        for environment in self._all:
            environment.book.reconfigure(demerits)
            environment.budget.reconfigure(retries)
            environment.shared_from = 0

    def get(self, site: str, name: str, now: float) -> Environment:
        """The environment of this name, new if it is not known."""
        environment = self.peek(site, name)
        if environment is not None:
            self.forget_if_idle(environment, now)
        else:
            environment = Environment(
                site,
                name,
                book=Demerits(self._demerits, (site, name), self.shared),
                budget=RetryBudget(self._retries, now),
                servers=self.servers,
            )
            self._in_hand[site, name] = environment
        self._known[site, name] = environment
        environment.seen = now
        return environment

    @property
    def _all(self) -> list[Environment]:
        return list(self._in_hand.values())

    def forget_if_idle(self, environment: Environment, now: float) -> None:
        """Forget what was learned about it if that is out of date: no request for `demerits.forget_after`."""
        idle_since = max(environment.asked_at, environment.seen)
        if not environment.in_flight and now - idle_since > self._demerits.forget_after:
            environment.book.forget()
            environment.expect_memory.forget()

    def in_use(self, now: float) -> int:
        """How many had a request, or a confirmed route, within `demerits.forget_after`. Looks at all of them."""
        since = now - self._demerits.forget_after
        return sum(e.seen > since or e.asked_at > since for e in self._all)

    def peek(self, site: str, name: str) -> Environment | None:
        """The environment of this name, if it is known."""
        return self._known.get((site, name)) or self._in_hand.get((site, name))

    def forget(self, environment: Environment) -> None:
        """Nobody has a route to it any more."""
        if self._known.get((environment.site, environment.name)) is environment:
            del self._known[environment.site, environment.name]

    def weigh_anew(self) -> None:
        """A server became suspect: whatever was worked out before is out of date."""
        for environment in self._all:
            environment.book.weighed_at = -1.0

    def hear(self, evidence: HealthEvent, now: float, rand: float) -> None:
        """What another worker found out."""
        if evidence.what in (SUSPECT, CLEAR):
            server = self.servers.get(evidence.endpoint)
            if server is not None:
                server.hear(suspect=evidence.what == SUSPECT, now=now)
                self.weigh_anew()
            return
        environment = self.peek(evidence.site, evidence.environment)
        if environment is not None:
            environment.book.hear(evidence, now, rand)
        else:
            self.shared.remember(evidence, now)
