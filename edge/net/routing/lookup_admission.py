"""Admission control for lookups of unknown hostnames: which are begun, wait or are refused, and who is charged.

    resolver ──submit──► decide ──now──────────────────────► look up ──ended──► charged if it found nothing
                           ├─wait─► AdmissionQueue ──room────────┘
                           └─refused            ├─refused
                                                └─expired──► None

The decisions are pure (`unknown_host_limit.py`, `lookup_queue.py`); the lookups are here,
and those that wait in `admission_queue.py`.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from edge.net.limits.admission_queue import NOW, AdmissionQueue
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.limits.lookup_queue import Done, WaitingLookup
from edge.rules.limits.unknown_host_limit import LookupCharge, LookupDecision, LookupPriority, UnknownHostLimit
from edge.rules.routing.routes import Route, may_exist
from edge.rules.settings import LimitSettings

LookupTask = asyncio.Task[Route | None]


class LookupAdmission:
    """The admission control of one worker."""

    def __init__(
        self,
        limit: UnknownHostLimit,
        *,
        clock: Callable[[], float],
        timeout: float,
        look_up: Callable[[str, LookupPriority], LookupTask | None],
        resolve_known: Callable[[str, Done], bool],
        is_rejected: Callable[[str], bool],
        capacity: int = 10_000,
        at_once: int = 100,
    ) -> None:
        """`timeout`: seconds for which a lookup may wait. `look_up` begins a lookup; it returns None if none is
        possible now. `resolve_known` resolves a hostname that has become known meanwhile, and returns False if it
        has not. `is_rejected`: whether a lookup without a route failed because of its hostname, so that its client
        is charged. `capacity`: lookups that may wait. `at_once`: lookups begun, refused or expired in one turn of
        the loop.
        """
        self.timeout = timeout
        self.limit = limit
        self._clock = clock
        self._look_up = look_up
        self._resolve_known = resolve_known
        self._is_rejected = is_rejected
        self._queue = AdmissionQueue(
            limit, clock=clock, admit=self._admit, expire=self._expire, capacity=capacity, at_once=at_once
        )

    def __repr__(self) -> str:
        return f"<LookupAdmission waiting={len(self._queue)} {self.limit!r}>"

    def reconfigure(self, limits: LimitSettings) -> None:
        """Apply these limits from now on."""
        self.limit.reconfigure(limits)
        self._queue.set_timer(self._clock())

    @property
    def waiting(self) -> int:
        """Hostnames that wait to be looked up."""
        return self._queue.hostnames

    def is_waiting(self, hostname: str) -> bool:
        """Whether this hostname waits to be looked up."""
        return self._queue.has_hostname(hostname)

    def submit(self, hostname: str, client: str, done: Done, refused: Callable[[], None]) -> None:
        """Look up an unknown hostname for a client: its address, or "" if that is not known.

        `done` receives the route, or None if there was no result. Calls `refused` instead if the client has asked
        for too many hostnames that do not exist.
        """
        now, key = self._clock(), client_key(client)
        decision = self.limit.decide(key, now)
        if decision is LookupDecision.REFUSED:
            refused()
        elif not may_exist(hostname):
            done(Route(None))
        elif decision in NOW and not self._queue.has_line:
            self._begin(hostname, key, decision, done, now)
        else:
            lookup = WaitingLookup(hostname, key, now + self.timeout, done, refused)
            displaced = self._queue.add(lookup, decision, now)
            if displaced is not None:
                self._expire(displaced)

    def close(self) -> None:
        """End all waits with None."""
        for lookup in self._queue.close():
            lookup.done(None)

    def _begin(self, hostname: str, client: ClientKey, decision: LookupDecision, done: Done, now: float) -> None:
        task = self._look_up(hostname, self.limit.priority(client, now))
        waiting = [lookup.done for lookup in self._queue.take_hostname(hostname)]
        if task is None:
            for each in (done, *waiting):
                each(None)
            return
        task.add_done_callback(partial(self._ended, hostname, self.limit.begin(client, decision)))
        for each in (done, *waiting):
            task.add_done_callback(partial(_deliver, each))

    def _ended(self, hostname: str, charge: LookupCharge, task: LookupTask) -> None:
        route, now = route_of(task), self._clock()
        unknown = self._is_rejected(hostname) if route is None else route.response is None
        self.limit.end(charge, now, unknown=unknown)

    def _expire(self, lookup: WaitingLookup) -> None:
        if not self._resolve_known(lookup.hostname, lookup.done):
            lookup.done(None)

    def _admit(self, lookup: WaitingLookup, decision: LookupDecision, now: float) -> None:
        if self._resolve_known(lookup.hostname, lookup.done):
            return
        if decision is LookupDecision.REFUSED:
            lookup.refused()
        else:
            self._begin(lookup.hostname, lookup.client, decision, lookup.done, now)


def route_of(task: LookupTask) -> Route | None:
    """The result of a lookup that has ended; None if it was cancelled or found nothing usable."""
    return None if task.cancelled() else task.result()


def _deliver(done: Done, task: LookupTask) -> None:
    done(route_of(task))
