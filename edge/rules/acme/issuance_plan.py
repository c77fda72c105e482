"""Decides which certificate is ordered next. Pure: `now` is seconds since the epoch, `rand` 0 to 1.

    wanted ──► due ──► take ──► under way ─┬─► issued ──► due again when it is time to renew
                 ▲      └ limits           ├─► failed ──► due again after a pause of its own
                 └─────────────────────────┴─► the authority failed: all wait

Every hostname has a record (`IssuanceRecord`); those that have changed are in `unsaved`, until the caller has saved
them.
"""

import re
from collections.abc import Callable, Iterable
from enum import Enum
from heapq import heappop, heappush
from math import inf
from typing import Final, NamedTuple

from msgspec.structs import replace

from edge.rules.acme.issuance_records import IssuanceGate, IssuanceRecord
from edge.rules.acme.issuance_times import (
    DAY,
    authority_pause,
    next_renewal_check,
    renewal_time,
    retry_pause,
    time_in_window,
)
from edge.rules.acme.order_limits import HOUR, WEEK, OrderLimits

WANTED_FOR: Final = DAY
"Seconds after the last handshake that asked for it for which a name is ordered, and ordered again."
UNKNOWN_RETRY: Final = 60.0
"Seconds after which a name that the source of routes did not know may be ordered again, if it is wanted."
UNSURE_RETRY: Final = 10.0
"Seconds after which a name is checked again whose route could not be looked up."
MOST_NAMES: Final = 100_000
"Hostnames with a record."
MOST_WANTED: Final = 10_000
"Hostnames that wait for their first certificate. Beyond it, further ones are not ordered for now."
LONGEST_DETAILS: Final = 500
LONGEST_NAME: Final = 230
"Characters of a hostname, after which files are named."
_ORDERED: Final = re.compile(r"(?:[a-z0-9-]+\.)+[a-z0-9-]+")


class IssuanceStep(Enum):
    """The next action for a name."""

    FIRST = "first"
    RENEW = "renew"
    RESUME = "resume"
    "Take up an order that a process has begun before it ended."
    ASK = "ask"
    "Ask the authority when to renew."


class PlannedStep(NamedTuple):
    """The action that the caller must take now."""

    step: IssuanceStep
    record: IssuanceRecord


def may_be_ordered(hostname: str) -> bool:
    """Whether an authority may issue a certificate for such a name: a hostname with a dot, without underscores."""
    return len(hostname) <= LONGEST_NAME and _ORDERED.fullmatch(hostname) is not None


def next_step(record: IssuanceRecord, now: float, directory_url: str) -> tuple[float, IssuanceStep | None]:
    """When something is to be done for a name, and what; None = nothing, until it is wanted again."""
    is_ours = record.directory_url == directory_url
    if record.order_url and is_ours:
        return record.retry_at, IssuanceStep.RESUME
    if record.not_after > now and is_ours:
        due = max(record.renew_at, record.retry_at)
        return (
            (record.ask_renewal_at, IssuanceStep.ASK) if record.ask_renewal_at < due else (due, IssuanceStep.RENEW)
        )
    if record.not_after > now:  # of another authority, such as one for trials
        return record.retry_at, IssuanceStep.RENEW
    if record.wanted_at + WANTED_FOR <= now or record.wanted_at + WANTED_FOR <= record.retry_at:
        return inf, None
    return max(record.wanted_at, record.retry_at), IssuanceStep.FIRST


class IssuancePlan:
    """The plan of one edge."""

    def __init__(
        self,
        directory_url: str,
        limits: OrderLimits,
        *,
        most_under_way: int,
        domain_of: Callable[[str], str],
        most_names: int = MOST_NAMES,
        most_wanted: int = MOST_WANTED,
    ) -> None:
        """`directory_url`: of the authority. `domain_of`: the registered domain of a hostname."""
        self._directory_url = directory_url
        self._limits = limits
        self._most_under_way = most_under_way
        self._domain_of = domain_of
        self._most_names, self._most_wanted = most_names, most_wanted
        self.records: dict[str, IssuanceRecord] = {}
        self.unsaved: dict[str, IssuanceRecord] = {}
        self.under_way: set[str] = set()
        self._due: list[tuple[float, str]] = []
        "A heap; of a name that is in it several times, only `_due_at` counts."
        self._due_at: dict[str, float] = {}
        self._wanted: set[str] = set()
        "Names without a certificate that are due at some time."
        self._pause = IssuanceGate()
        self._authority_failures = 0

    def load(self, records: Iterable[IssuanceRecord], now: float) -> None:
        """Take over the records of an earlier process. Limits may be others than before."""
        starts: list[tuple[float, str, bool]] = []
        for found in records:
            if len(self.records) >= self._most_names:
                break
            record = found
            if record.reason in ("orders_per_domain", "unknown_host", "route_unsure"):
                record = replace(record, retry_at=0.0)
            starts += [(at, record.hostname, True) for at in record.first_orders]
            starts += [(at, record.hostname, False) for at in record.renewals]
            self.records[record.hostname] = record
            self._put(record, now)
        for at, hostname, is_first in sorted(starts):
            self._limits.record(self._domain_of(hostname), at, now, is_first=is_first)

    # queries

    def gate(self, now: float) -> IssuanceGate:
        """The reason why all orders wait now."""
        if self._pause.until > now:
            return self._pause
        wait = self._limits.wait_of_all(now)
        return IssuanceGate() if wait is None else IssuanceGate(wait.until, wait.reason)

    def next_at(self, now: float) -> float:
        """When `take` may have something next; inf = never, if nothing changes."""
        self._drop_outdated()
        if not self._due or len(self.under_way) >= self._most_under_way:
            return inf
        return max(self._due[0][0], self.gate(now).until)

    # what happens

    def want(self, hostname: str, now: float) -> None:
        """A handshake found no certificate for this name, which the source of routes knows."""
        record = self.records.get(hostname)
        if hostname in self.under_way or not may_be_ordered(hostname):
            return
        if record is None:
            if len(self._wanted) >= self._most_wanted or len(self.records) >= self._most_names:
                return
            record = IssuanceRecord(hostname)
        elif record.wanted_at + WANTED_FOR / 2 > now and hostname in self._due_at:
            return
        elif record.not_after > now and record.directory_url == self._directory_url:
            return  # it is there, and the workers are about to read it
        self._put(replace(record, wanted_at=now), now)

    def take(self, now: float) -> PlannedStep | None:
        """The next thing to do, which is under way from now on; None = nothing now (`next_at`)."""
        while self.next_at(now) <= now:
            _, hostname = heappop(self._due)
            del self._due_at[hostname]
            record = self.records[hostname]
            at, step = next_step(record, now, self._directory_url)
            domain = self._domain_of(hostname)
            if step is None or at > now:
                self._put(record, now)
            elif step is IssuanceStep.FIRST and (wait := self._limits.wait_of_domain(domain, now)):
                self._put(replace(record, retry_at=wait.until, reason=wait.reason, details=""), now)
            else:
                self.under_way.add(hostname)
                return PlannedStep(step, record)
        return None

    def begin_order(self, hostname: str, now: float) -> bool:
        """Count an order that is about to be sent. Returns False when others have reached a limit meanwhile."""
        record, domain = self.records[hostname], self._domain_of(hostname)
        is_first = record.not_after <= now
        if self._limits.wait_of_all(now) or (is_first and self._limits.wait_of_domain(domain, now)):
            return False
        first = tuple(at for at in record.first_orders if at + WEEK > now)
        renewals = tuple(at for at in record.renewals if at + HOUR > now)
        if is_first:
            first = (*first, now)
        else:
            renewals = (*renewals, now)
        self._save(replace(record, first_orders=first, renewals=renewals, order_url=""))
        self._limits.record(domain, now, now, is_first=is_first)
        return True

    def began(self, hostname: str, order_url: str) -> None:
        """The authority has accepted the order."""
        self._authority_failures = 0
        self._save(replace(self.records[hostname], order_url=order_url, directory_url=self._directory_url))

    def issued(self, hostname: str, not_before: float, not_after: float, now: float, rand: float) -> None:
        """The certificate is there, valid between these times."""
        self._authority_failures = 0
        record = replace(
            self.records[hostname],
            directory_url=self._directory_url,
            order_url="",
            not_before=not_before,
            not_after=not_after,
            renew_at=renewal_time(not_before, not_after, rand),
            ask_renewal_at=now,
            failures=0,
            failed_at=0.0,
            retry_at=0.0,
            reason="",
            details="",
        )
        self._end(record, now)

    def renewal_suggested(
        self, hostname: str, window: tuple[float, float] | None, retry_after: float | None, now: float, rand: float
    ) -> None:
        """The authority has said when to renew (start and end); None = it has no such thing, or could not be
        asked: the time stays."""
        record = self.records[hostname]
        if window is not None and not window[0] <= record.renew_at <= window[1]:
            record = replace(record, renew_at=time_in_window(*window, rand, record.not_after))
        self._end(replace(record, ask_renewal_at=next_renewal_check(now, retry_after)), now)

    def failed(self, hostname: str, reason: str, details: str, retry_after: float, now: float, rand: float) -> None:
        """The order has failed for reasons of this name. `retry_after`: seconds, as the authority says; 0 = it does
        not."""
        self._authority_failures = 0
        record = self.records[hostname]
        failures = record.failures + 1
        retry_at = now + retry_pause(failures, rand, retry_after)
        self._end(
            replace(
                record,
                order_url="",
                failures=failures,
                failed_at=now,
                retry_at=retry_at,
                reason=reason,
                details=details[:LONGEST_DETAILS],
            ),
            now,
        )

    def authority_failed(self, hostname: str, details: str, retry_after: float, now: float, rand: float) -> None:
        """The authority could not be reached, or does not work: no name is to blame, all wait. An order under way
        is taken up again."""
        self._authority_failures += 1
        until = now + authority_pause(self._authority_failures, rand, retry_after)
        self._pause = IssuanceGate(until, "authority_failed", details[:LONGEST_DETAILS])
        self._end(self.records[hostname], now)

    def not_ordered(self, hostname: str, reason: str, now: float) -> None:
        """The name is not ordered now: `unknown_host` (the source of routes does not know it any more),
        `route_unsure` (it could not be asked, or no worker could), or `limit` (of `begin_order`)."""
        record = self.records[hostname]
        if reason == "unknown_host":
            pause = DAY if record.not_after > now else UNKNOWN_RETRY
            record = replace(record, wanted_at=0.0, order_url="", retry_at=now + pause, reason=reason, details="")
        elif reason == "route_unsure":
            record = replace(record, retry_at=now + UNSURE_RETRY, reason=reason, details="")
        self._end(record, now)

    def lost(self, hostname: str, now: float) -> None:
        """Its certificate is no longer where it was written."""
        record = self.records.get(hostname)
        if record is not None and hostname not in self.under_way and record.not_after:
            self._put(replace(record, not_before=0.0, not_after=0.0, renew_at=0.0, ask_renewal_at=0.0), now)

    def forget_old(self, now: float) -> list[str]:
        """Drop the records of names without a certificate that nobody has wanted for seven days; return them."""
        old = [
            name
            for name, record in self.records.items()
            if name not in self._due_at
            and name not in self.under_way
            and max(record.wanted_at, record.failed_at, record.not_after, record.retry_at) + WEEK <= now
        ]
        for name in old:
            del self.records[name]
            self.unsaved.pop(name, None)
        self._limits.forget(now)
        return old

    def _end(self, record: IssuanceRecord, now: float) -> None:
        self.under_way.discard(record.hostname)
        self._put(record, now)

    def _put(self, record: IssuanceRecord, now: float) -> None:
        """Store a record that is not under way, and schedule what is next."""
        hostname = record.hostname
        if self.records.get(hostname) != record:
            self._save(record)
        at, step = next_step(record, now, self._directory_url)
        self._wanted.discard(hostname)
        self._due_at.pop(hostname, None)
        if step is None:
            return
        if step is IssuanceStep.FIRST:
            self._wanted.add(hostname)
        self._due_at[hostname] = at
        heappush(self._due, (at, hostname))

    def _save(self, record: IssuanceRecord) -> IssuanceRecord:
        self.records[record.hostname] = self.unsaved[record.hostname] = record
        return record

    def _drop_outdated(self) -> None:
        while self._due and self._due_at.get(self._due[0][1]) != self._due[0][0]:
            heappop(self._due)
