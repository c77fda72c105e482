"""The queue of lookups that wait for the limit of unknown hosts, and the one timer that takes them out of it.

    add ─► LookupQueue ─┬─ its turn: begun or refused ─► admit
                        └─ too late, or displaced ─────► expire

What is looked up differs, routes or certificates; who waits, for how long and in which order does not.
"""

from collections.abc import Callable
from itertools import islice
from typing import Final

from edge.net.limits.queue_timer import QueueTimer
from edge.rules.limits.client_key import ClientKey
from edge.rules.limits.lookup_queue import LookupQueue, WaitingLookup
from edge.rules.limits.unknown_host_limit import LookupDecision, UnknownHostLimit

NOW: Final = (LookupDecision.RESERVED, LookupDecision.COMMON)
"The decisions with which a lookup begins now, unless others wait in line."


class AdmissionQueue:
    """The waiting lookups of one kind, in one worker."""

    __slots__ = ("_admit", "_at_once", "_clock", "_expire", "_limit", "_queue", "_timer")

    def __init__(
        self,
        limit: UnknownHostLimit,
        *,
        clock: Callable[[], float],
        admit: Callable[[WaitingLookup, LookupDecision, float], None],
        expire: Callable[[WaitingLookup], None],
        capacity: int,
        at_once: int,
    ) -> None:
        """`admit` begins or refuses a lookup as was decided, and gets the time. `expire` ends one whose time is
        over. `capacity`: lookups that may wait. `at_once`: calls of the two in one turn of the loop."""
        self._limit = limit
        self._queue = LookupQueue(limit, capacity=capacity)
        self._clock = clock
        self._admit = admit
        self._expire = expire
        self._at_once = at_once
        self._timer = QueueTimer(self._continue)
        limit.ended.append(self._room_made)

    def __len__(self) -> int:
        """How many lookups wait."""
        return len(self._queue)

    @property
    def has_line(self) -> bool:
        """Whether a client waits for room in a bucket, so that a new lookup has to wait as well."""
        return self._queue.has_line

    @property
    def hostnames(self) -> int:
        """Number of hostnames that wait to be looked up."""
        return self._queue.hostnames

    def has_hostname(self, hostname: str) -> bool:
        """Whether a lookup of this hostname waits."""
        return self._queue.has_hostname(hostname)

    def add(self, lookup: WaitingLookup, decision: LookupDecision, now: float) -> WaitingLookup | None:
        """Let a lookup wait. One that was decided already has its turn in the next turn of the loop. Returns the
        lookup that was removed for it, if the queue is full."""
        displaced = self._queue.add(lookup, decision, now)
        self.set_timer(now, at_once=decision in NOW or decision is LookupDecision.REFUSED)
        return displaced

    def discard(self, lookup: WaitingLookup) -> None:
        """Remove a lookup, if it still waits. Nobody is called."""
        self._queue.discard(lookup)

    def take_hostname(self, hostname: str) -> list[WaitingLookup]:
        """Remove and return all lookups of this hostname."""
        return self._queue.take_hostname(hostname)

    def close(self) -> list[WaitingLookup]:
        """End for good. Removes and returns all lookups; nobody is called."""
        if self._room_made in self._limit.ended:
            self._limit.ended.remove(self._room_made)
        self._timer.cancel()
        return self._queue.take_all()

    def set_timer(self, now: float, *, at_once: bool = False) -> None:
        """Schedule the next check of the queue, such as after a change of the limit."""
        self._timer.schedule(self._queue.next_at(now), now, at_once=at_once)

    def _room_made(self, client: ClientKey) -> None:
        """A lookup of this client has ended, of a route or a certificate: the limit may have room."""
        if len(self._queue):
            self._queue.own_ended(client)
            self.set_timer(self._clock(), at_once=True)

    def _continue(self) -> None:
        """Admit or expire those that are due, at most `at_once` in this turn of the loop."""
        now, left = self._clock(), self._at_once
        for lookup in islice(self._queue.take_expired(now), left):
            left -= 1
            self._expire(lookup)
        while left and (found := self._queue.take_next(now)) is not None:
            left -= 1
            self._admit(found.lookup, found.decision, now)
        self.set_timer(now, at_once=not left)
