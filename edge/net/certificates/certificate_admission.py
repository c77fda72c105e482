"""Admission control for lookups of certificates that nobody knows: which begin now, and who waits for the
limit of unknown hosts.

    handshake ─► submit ─► now ────────────────────────► lookup
                   └─► AdmissionQueue ─ room in the limit ┘ └─► all that wait for this name go on
                            └─ refused, or too late

The decisions are those of requests for unknown hosts (`unknown_host_limit.py`, `lookup_queue.py`), and so is the
limit. Who waits here has no task and no timer: a flood of made-up names is a queue, and one timer.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Final

from edge.net.limits.admission_queue import NOW, AdmissionQueue
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.limits.lookup_queue import Done, WaitingLookup
from edge.rules.limits.unknown_host_limit import LookupCharge, LookupDecision, LookupPriority, UnknownHostLimit

AT_ONCE: Final = 4
"Lookups that begin, and handshakes that are refused, in one turn of the loop."

Ask = Callable[[str, LookupPriority, Callable[[], LookupCharge]], object]
"Begins a lookup for a hostname, unless one is under way or none is needed any more."


class LookupTurn(Enum):
    """How a wait for the limit has ended."""

    NOW = "there was none: a lookup has begun, or cannot begin"
    WAITED = "a lookup has begun meanwhile, or the time is over"
    REFUSED = "the client has asked for too many unknown hosts"


class CertificateAdmission:
    """The admission control of one worker."""

    __slots__ = ("_ask", "_clock", "_limit", "_queue")

    def __init__(
        self,
        limit: UnknownHostLimit,
        *,
        clock: Callable[[], float],
        ask: Ask,
        capacity: int,
        at_once: int = AT_ONCE,
    ) -> None:
        """`capacity`: how many may wait."""
        self._limit = limit
        self._clock = clock
        self._ask = ask
        self._queue = AdmissionQueue(
            limit, clock=clock, admit=self._admit, expire=_go_on, capacity=capacity, at_once=at_once
        )

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def submit(
        self, hostname: str, client: str, deadline: float, done: Done, refused: Callable[[], None]
    ) -> WaitingLookup | None:
        """Begin a lookup, or wait for it. None = it has begun, or cannot begin, and nobody is called. Else `done`
        is called when the lookup has begun or `deadline` has passed, or `refused` when the client has asked for
        too many unknown hosts; unless the caller leaves before (`leave`)."""
        now, key = self._clock(), client_key(client)
        decision = self._limit.decide(key, now)
        if decision in NOW and not self._queue.has_line:
            self._begin(hostname, key, decision, now)
            return None
        waiting = WaitingLookup(hostname, key, deadline, done, refused)
        displaced = self._queue.add(waiting, decision, now)
        if displaced is not None:
            displaced.refused()
        return waiting

    async def turn(self, hostname: str, client: str, deadline: float) -> LookupTurn:
        """The same for a task."""
        if self._limit.decide(client_key(client), self._clock()) is LookupDecision.REFUSED:
            return LookupTurn.REFUSED
        turn: asyncio.Future[LookupTurn] = asyncio.get_running_loop().create_future()

        def end(how: LookupTurn, _: object = None) -> None:
            if not turn.done():
                turn.set_result(how)

        refused = partial(end, LookupTurn.REFUSED)
        waiting = self.submit(hostname, client, deadline, partial(end, LookupTurn.WAITED), refused)
        if waiting is None:
            return LookupTurn.NOW
        try:
            return await turn
        finally:
            self.leave(waiting)

    def leave(self, waiting: WaitingLookup) -> None:
        """Wait no longer. It may have been called."""
        self._queue.discard(waiting)

    def close(self) -> None:
        """Refuse all that wait."""
        for waiting in self._queue.close():
            waiting.refused()

    def _begin(self, hostname: str, client: ClientKey, decision: LookupDecision, now: float) -> None:
        self._ask(hostname, self._limit.priority(client, now), partial(self._limit.begin, client, decision))
        for waiting in self._queue.take_hostname(hostname):
            waiting.done(None)

    def _admit(self, waiting: WaitingLookup, decision: LookupDecision, now: float) -> None:
        if decision is LookupDecision.REFUSED:
            waiting.refused()
        else:
            self._begin(waiting.hostname, waiting.client, decision, now)
            waiting.done(None)


def _go_on(waiting: WaitingLookup) -> None:
    waiting.done(None)
