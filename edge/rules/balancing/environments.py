"""Environments: what the worker has learned about the containers of a site's dev, test or live, and its retry
budget."""

from collections.abc import Mapping
from itertools import islice
from math import inf
from sys import getrefcount
from typing import Final

from edge.rules.balancing.backend_state import BackendState
from edge.rules.balancing.demerits import OTHERS_SEEN, Demerits
from edge.rules.balancing.expect_support import ExpectMemory
from edge.rules.balancing.health_events import CLEAR, SUSPECT, HealthEvents
from edge.rules.balancing.health_records import HealthEvent
from edge.rules.balancing.pending_queue import PendingQueue
from edge.rules.balancing.retries import RetryBudget
from edge.rules.balancing.server_failures import ServerFailures
from edge.rules.limits.slot_shares import SlotShares
from edge.rules.settings import DemeritSettings, RetrySettings


def _count_of_unused() -> int:
    """What `getrefcount` says of an object that only a dict refers to. Whether its own argument counts depends on
    the version of Python, and on whether this is compiled."""
    held = {0: object()}
    return getrefcount(held[0])


_UNUSED: Final = _count_of_unused()
_EXAMINED: Final = 2
"Dropped environments that are examined when one more is dropped."


class Environment:
    """One environment: a site's dev, test or live. All its hostnames share it, and it outlives their routes."""

    __slots__ = (
        "budget",
        "client_address",
        "client_changed_at",
        "confirmed_at",
        "demerits",
        "expect_memory",
        "in_flight",
        "key",
        "last_request_at",
        "name",
        "pending_queue",
        "requests",
        "servers",
        "shared_from",
        "site",
        "site_slot",
        "slots",
    )

    def __init__(
        self,
        site: str,
        name: str,
        *,
        demerits: Demerits,
        budget: RetryBudget,
        servers: ServerFailures | None = None,
    ) -> None:
        self.site = site
        self.key = (site, name)
        self.site_slot = -1
        "Index of the site in `metrics.sites`; -1 = it is not there."
        self.servers = servers or ServerFailures()
        "The servers of all environments of this worker."
        self.name = name
        self.demerits = demerits
        self.budget = budget
        self.requests = 0
        "Requests since the environment was first seen; the retry budget fills with them."
        self.pending_queue = PendingQueue()
        self.expect_memory = ExpectMemory()
        self.in_flight = 0
        "Requests in flight."
        self.shared_from = 0
        """Number of requests in flight from which slots are shared by client; 0 = it must be looked up, or they are
        counted already."""
        self.slots: SlotShares | None = None
        "Requests in flight by client, while slots are shared."
        self.last_request_at = 0.0
        "Time of the last request."
        self.client_address = ""
        "The client that sent the last request."
        self.client_changed_at = -inf
        "Time of the last request that was of another client than the request before it."
        self.confirmed_at = 0.0
        "Time at which the core API last confirmed a route to the environment."

    def note_witness(self, state: BackendState, client: str, now: float, *, first: bool) -> None:
        """A request of this client was slow or failed at this backend. `first`: the first in a row that
        did. What it costs depends on whether other clients have sent requests lately."""
        alone = now - self.client_changed_at > OTHERS_SEEN
        self.demerits.note_witness(state, client, now, alone=alone, first=first)


class Environments:
    """The environments in use, and others up to `demerits.capacity`.

    There is never more than one object for a name: as long as a route, an exchange or a connect check refers to
    one, `get` returns that one. What was learned about an environment is forgotten after `demerits.forget_after`
    idle seconds.

    (Those that only others refer to would be in a WeakValueDictionary if compiled objects could be referred to
    weakly.)
    """

    __slots__ = ("_capacity", "_demerits", "_dropped", "_known", "_retries", "_site_slots", "servers", "shared")

    def __init__(
        self, demerits: DemeritSettings, retries: RetrySettings, site_slots: Mapping[str, int] | None = None
    ) -> None:
        """`site_slots`: of the sites that have metrics of their own."""
        self._site_slots = site_slots or {}
        self._demerits = demerits
        self._retries = retries
        self.servers = ServerFailures()
        self.shared = HealthEvents()
        self._capacity = demerits.capacity
        self._known: dict[tuple[str, str], Environment] = {}
        "The one whose route was stored last is the last."
        self._dropped: dict[tuple[str, str], Environment] = {}
        """Those that `_known` had no room for, or that have no route left. They stay here while anything else
        refers to them, and until more are dropped: each drop looks for two that nothing refers to any more."""

    def __len__(self) -> int:
        return len(self._known)

    def reconfigure(self, demerits: DemeritSettings, retries: RetrySettings) -> None:
        """Use these settings from now on. Nothing that was learned is lost; `demerits.capacity` is not changed."""
        self._demerits = demerits
        self._retries = retries
        for environment in self.all:
            environment.demerits.reconfigure(demerits)
            environment.budget.reconfigure(retries)
            environment.shared_from = 0

    def get(self, site: str, name: str, now: float) -> Environment:
        """Return the environment of this name, a new one if it is not known."""
        environment = self.peek(site, name)
        if environment is not None:
            self.forget_if_idle(environment, now)
        else:
            environment = Environment(
                site,
                name,
                demerits=Demerits(self._demerits, (site, name), self.shared),
                budget=RetryBudget(self._retries, now),
                servers=self.servers,
            )
            environment.site_slot = self._site_slots.get(site, -1)
        key = environment.key
        self._dropped.pop(key, None)
        self._known.pop(key, None)
        self._known[key] = environment
        if len(self._known) > self._capacity:
            self.forget(next(iter(self._known.values())))
        environment.confirmed_at = now
        return environment

    @property
    def all(self) -> list[Environment]:
        """All environments that are known or in use."""
        return [*self._known.values(), *(self._dropped[key] for key in self._dropped if self._is_used(key))]

    def _is_used(self, key: tuple[str, str]) -> bool:
        """Whether anything else refers to this dropped environment."""
        return getrefcount(self._dropped[key]) > _UNUSED

    def forget_if_idle(self, environment: Environment, now: float) -> None:
        """Forget what was learned about it if it had no request and no confirmed route for
        `demerits.forget_after`."""
        idle_since = max(environment.last_request_at, environment.confirmed_at)
        if not environment.in_flight and now - idle_since > self._demerits.forget_after:
            environment.demerits.forget()
            environment.expect_memory.forget()

    def in_use(self, now: float) -> int:
        """Number of environments with a request or a confirmed route within `demerits.forget_after`.
        O(environments)."""
        since = now - self._demerits.forget_after
        return sum(e.confirmed_at > since or e.last_request_at > since for e in self.all)

    def peek(self, site: str, name: str) -> Environment | None:
        """Return the environment of this name, or None."""
        key = (site, name)
        environment = self._known.get(key)
        if environment is None and key in self._dropped and self._is_used(key):
            return self._dropped[key]
        return environment

    def forget(self, environment: Environment) -> None:
        """Drop the environment: no route to it is left, or others are used more."""
        if self._known.get(environment.key) is not environment:
            return
        del self._known[environment.key]
        self._dropped[environment.key] = environment
        for key in list(islice(self._dropped, _EXAMINED)):  # the rest in turn: a used one goes to the end
            is_used = self._is_used(key)
            dropped = self._dropped.pop(key)
            if is_used:
                self._dropped[key] = dropped

    def weigh_again(self) -> None:
        """Have all weights computed again at the next request: a server became suspect or was cleared."""
        for environment in self.all:
            environment.demerits.weighed_at = -1.0

    def apply_event(self, event: HealthEvent, now: float, rand: float) -> None:
        """Apply what another worker reported."""
        if event.kind in (SUSPECT, CLEAR):
            server = self.servers.get(event.endpoint)
            if server is not None:
                server.apply_event(suspect=event.kind == SUSPECT, now=now)
                self.weigh_again()
            return
        environment = self.peek(event.site, event.environment)
        if environment is not None:
            environment.demerits.apply_event(event, now, rand)
        else:
            self.shared.remember(event, now)
