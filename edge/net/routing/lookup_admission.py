"""Admission control for lookups of unknown hostnames: which are begun, wait or are refused, and who is charged.

    resolver ──submit──► decide ──now──────────────────────► look up ──ended──► charged if it found nothing
                           ├─wait─► LookupQueue ──room───────────┘
                           └─refused            ├─refused
                                                └─expired──► None

The decisions are pure (`unknown_host_limit.py`, `lookup_queue.py`); the timer and the lookups are here.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import islice
from math import inf

from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.limits.lookup_queue import Done, LookupQueue, WaitingLookup
from edge.rules.limits.unknown_host_limit import LookupCharge, LookupDecision, LookupPriority, UnknownHostLimit
from edge.rules.routing.routes import Route, may_exist
from edge.rules.settings import LimitSettings

LookupTask = asyncio.Task[Route | None]

_NOW = (LookupDecision.RESERVED, LookupDecision.COMMON)
_SHORTEST = 0.001
"Seconds between two checks of the queue while no lookup ends."


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
        self._queue = LookupQueue(limit, capacity=capacity)
        self._clock = clock
        self._look_up = look_up
        self._resolve_known = resolve_known
        self._is_rejected = is_rejected
        self._at_once = at_once
        self._timer: asyncio.Handle | None = None
        self._due = inf
        "When the timer ends; -inf = in the next turn of the loop, infinity = there is no timer."

    def __repr__(self) -> str:
        return f"<LookupAdmission waiting={len(self._queue)} {self.limit!r}>"

    def reconfigure(self, limits: LimitSettings) -> None:
        """Apply these limits from now on."""
        self.limit.reconfigure(limits)
        self._set_timer(self._clock())

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
        elif decision in _NOW and not self._queue.has_line:
            self._begin(hostname, key, decision, done, now)
        else:
            lookup = WaitingLookup(hostname, key, now + self.timeout, done, refused)
            displaced = self._queue.add(lookup, decision, now)
            if displaced is not None:
                self._expire(displaced)
            self._set_timer(now, at_once=decision in _NOW)

    def close(self) -> None:
        """End all waits with None."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for lookup in self._queue.take_all():
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
        self._queue.own_ended(charge.client)
        self._set_timer(now, at_once=True)

    def _expire(self, lookup: WaitingLookup) -> None:
        if not self._resolve_known(lookup.hostname, lookup.done):
            lookup.done(None)

    def _set_timer(self, now: float, *, at_once: bool = False) -> None:
        """Schedule the next check of the queue, if that is earlier than the one scheduled."""
        deadline = self._queue.next_at(now)
        if deadline is None:
            return
        deadline = -inf if at_once else max(deadline, now + _SHORTEST)
        if deadline >= self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._due = deadline
        self._timer = loop.call_soon(self._continue) if at_once else loop.call_later(deadline - now, self._continue)

    def _continue(self) -> None:
        """Begin, refuse or expire waiting lookups that are due, at most `at_once` in this turn of the loop."""
        self._timer, self._due = None, inf
        now, left = self._clock(), self._at_once
        for lookup in islice(self._queue.take_expired(now), left):
            left -= 1
            self._expire(lookup)
        while left and (found := self._queue.take_next(now)) is not None:
            left -= 1
            lookup, decision = found
            if self._resolve_known(lookup.hostname, lookup.done):
                continue
            if decision is LookupDecision.REFUSED:
                lookup.refused()
            else:
                self._begin(lookup.hostname, lookup.client, decision, lookup.done, now)
        self._set_timer(now, at_once=not left)


def route_of(task: LookupTask) -> Route | None:
    """The result of a lookup that has ended; None if it was cancelled or found nothing usable."""
    return None if task.cancelled() else task.result()


def _deliver(done: Done, task: LookupTask) -> None:
    done(route_of(task))
