"""Finds the certificate of a name: in the table, or by one lookup for all handshakes that wait for it.

    handshake ─► find ──────────────► known: served at once, and asked for in the background when it is time
                  └─► lookup ─► one request to the source for each name ─► table ─► all that wait, a few per turn

Decisions are in the table (`certificate_table.py`); the lookups, their deadlines and the waiting are here.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from typing import Final

from edge.net.certificates.certificate_admission import CertificateAdmission, LookupTurn
from edge.net.certificates.certificate_events import SOURCE, CertificateEvents
from edge.net.certificates.certificate_lookup import (
    CertificateLookup,
    NoCertificate,
    Outcome,
    certificate_or_raise,
    known_miss,
    release,
)
from edge.net.certificates.core_api_certificates import CertificateResult, CertificateSource
from edge.net.deferred_queue import DeferredQueue
from edge.net.fair_timeout import FairTimeout
from edge.net.priority_semaphore import PrioritySemaphore
from edge.net.routing.core_api import CoreApiError
from edge.net.routing.lookup_circuit import LookupCircuit
from edge.net.routing.lookups.lookup_wait import EXPIRED_WAIT
from edge.rules.certificates.certificate_checks import UnusableCertificate, certificate_of
from edge.rules.certificates.certificate_table import (
    CertificateRejection,
    CertificateState,
    CertificateTable,
    NameState,
)
from edge.rules.certificates.certificates import Certificate, SharedChains
from edge.rules.certificates.explain_certificate import (
    MOST_ENDING,
    certificate_status,
    explain_certificate,
)
from edge.rules.certificates.known_certificate import KnownCertificate
from edge.rules.environment_status_records import CertificateStatus
from edge.rules.explain_records import ExplainedCertificate
from edge.rules.limits.client_key import client_key
from edge.rules.limits.lookup_queue import Done, WaitingLookup
from edge.rules.limits.unknown_host_limit import LookupCharge, LookupDecision, LookupPriority, UnknownHostLimit
from edge.rules.tls.client_hello import Alert

PAUSE_AFTER_FAILURE: Final = 2.0
"Seconds after a failed lookup before a known certificate is asked for again, and up to twice as many."
AGAIN_AFTER: Final = 0.1
"Seconds, with 50 % jitter to both sides, after which a failed lookup is repeated once."
SHORTEST_RETRY: Final = 0.1
"Seconds between two lookups for a certificate that is being issued, at least."
MOST_LOOKUPS: Final = 10_000
"Lookups under way, with those that wait for a slot. Beyond it, no other begins."
MOST_WAITING: Final = 10_000
"Handshakes that wait. Beyond it, others are refused."

log = logging.getLogger("styx.certificates")


class CertificateResolver:
    """The certificates of one worker that come from a source which is asked, such as the core API."""

    def __init__(
        self,
        table: CertificateTable,
        source: CertificateSource,
        limit: UnknownHostLimit,
        *,
        deferred: DeferredQueue,
        concurrency: int,
        timeout: float,
        clock: Callable[[], float],
        rand: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`limit`: of unknown hosts, the same as for requests. `deferred`: releases those that wait. `concurrency`:
        lookups at once. `timeout`: seconds for one lookup, with the wait for a slot."""
        self.table = table
        self._source = source
        self._limit = limit
        self._admission = CertificateAdmission(limit, clock=clock, ask=self._ask_unknown, capacity=2 * MOST_WAITING)
        self._deferred = deferred
        self._timeout = timeout
        self._clock, self._rand, self._wall = clock, rand, wall
        self._chains = SharedChains()
        self._asking: dict[str, CertificateLookup] = {}
        self._slots = PrioritySemaphore(concurrency)
        self._circuit = LookupCircuit(table, self._asking, start=self._start_witness, clock=clock, rand=rand)
        self._events = CertificateEvents()
        self.results: Counter[str] = Counter()
        "Lookups by result: fresh or stale = known, asked = a lookup gave it, or why there was none."
        self.waiting = 0
        "Handshakes that wait for a certificate."

    faults = 0
    "There are no files (`CertificateFinder`)."

    @property
    def rejected(self) -> Mapping[str, int]:
        """Certificates in responses that were not used, by reason."""
        return self._events.rejected

    @property
    def soonest_not_after(self) -> float | None:
        """The earliest notAfter of all certificates, in seconds since the epoch; None = there is none."""
        return self.table.soonest_not_after

    def ending_first(self) -> list[CertificateStatus]:
        """The certificates that end first."""
        found = self.table.ending_first(MOST_ENDING)
        return [certificate_status(known.certificate, SOURCE, known.last_error) for known in found]

    @property
    def asking(self) -> int:
        """Lookups under way, with those that wait for a slot."""
        return len(self._asking)

    async def close(self) -> None:
        """Cancel all lookups, refuse who waits, and close the source."""
        self._admission.close()
        tasks = [lookup.task for lookup in self._asking.values() if lookup.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._source.close()

    # for handshakes

    def find(self, hostname: str) -> Certificate | None:
        """The certificate of a name, if it can be served at once. If it is time, it is asked for besides."""
        found = self.table.look_up(hostname, self._clock(), self._wall())
        return self._served(found) if found.state is not CertificateState.EXPIRED else None

    def refuse(self, hostname: str, client: str) -> NoCertificate | None:
        """Why a handshake for a name that `find` has not found is refused at once: there is no certificate, or its
        client has named too many unknown hosts. None = `lookup` has to tell. In a flood of made-up names most
        handshakes end here, without a task, a timeout and an exception."""
        now = self._clock()
        found = self.table.look_up(hostname, now, self._wall())
        if found.known is not None or hostname in self._asking:
            return None
        refusal = known_miss(self.table, hostname, found.state, inf)
        if len(self._admission) >= MOST_WAITING:
            refusal = refusal or NoCertificate(Alert.INTERNAL_ERROR, "busy")
        elif (
            found.state is CertificateState.UNKNOWN
            and self._limit.decide(client_key(client), now) is LookupDecision.REFUSED
        ):
            refusal = NoCertificate(Alert.INTERNAL_ERROR, "refused")
        if refusal is not None:
            self.results[refusal.reason] += 1
        return refusal

    def queue(
        self, hostname: str, client: str, deadline: float, go_on: Done, refused: Callable[[], None]
    ) -> WaitingLookup | None:
        """Wait for the limit of unknown hosts before `lookup`; see `CertificateAdmission.submit`. None = `lookup`
        may be called now."""
        if hostname in self._asking or self.table.get(hostname) is not None:
            return None
        return self._admission.submit(hostname, client, deadline, go_on, partial(self._count_refused, refused))

    def leave(self, waiting: WaitingLookup) -> None:
        """Wait in the queue no longer. It may have left the queue before."""
        self._admission.leave(waiting)

    def _count_refused(self, refused: Callable[[], None]) -> None:
        self.results["refused"] += 1
        refused()

    async def lookup(self, hostname: str, client: str | None, *, deadline: float) -> Certificate:
        """The certificate of a name. Waits until `deadline`, on the clock of the worker. `client`: address of who
        asks, who is charged if there is none; None = the edge itself. Raises NoCertificate."""
        self.waiting += 1
        try:
            if self.waiting > MOST_WAITING:
                raise NoCertificate(Alert.INTERNAL_ERROR, "busy")
            async with FairTimeout(max(0.0, deadline - self._clock())):
                return await self._lookup(hostname, client, deadline)
        except TimeoutError:
            self.results["timeout"] += 1
            raise NoCertificate(Alert.INTERNAL_ERROR, "timeout") from None
        except NoCertificate as error:
            self.results[error.reason] += 1
            raise
        finally:
            self.waiting -= 1

    async def _lookup(self, hostname: str, client: str | None, deadline: float) -> Certificate:
        asked = ""
        while True:
            found = self.table.look_up(hostname, self._clock(), self._wall())
            if found.known is not None and (found.state is not CertificateState.EXPIRED or asked == found.ask_for):
                served = self._served(found)
                assert served is not None
                return served
            if (miss := known_miss(self.table, hostname, found.state, deadline)) is not None:
                raise miss
            name = found.ask_for or hostname
            lookup = self._asking.get(name)
            if lookup is None and found.known is not None:
                lookup = self._start(name, LookupPriority.KNOWN, None)
                if lookup is None:  # it cannot be asked for now, as if the lookup had failed
                    self.results["stale"] += 1
                    return found.known.certificate
            elif lookup is None:
                lookup = await self._begin(name, client, deadline)
                if lookup is None:
                    continue
            if found.known is None:
                outcome = await lookup.outcome(deadline)
            elif (soon := await self._outcome_soon(lookup, found.known, deadline)) is None:
                self.results["stale"] += 1
                return found.known.certificate
            else:
                outcome = soon
            if name == hostname:
                found_now = certificate_or_raise(outcome)
                self.results["asked"] += 1
                return found_now
            asked = name  # a wildcard's certificate was asked for by another name: see what that has changed

    async def _outcome_soon(
        self, lookup: CertificateLookup, known: KnownCertificate, deadline: float
    ) -> Outcome | None:
        """Wait a moment for the lookup for an expired certificate that could be served, or not at all if the last
        one failed. None = it takes longer; then nobody waits for it any more."""
        wait = 0.0 if known.last_error is not None else EXPIRED_WAIT * self._timeout
        outcome = await lookup.outcome_within(wait, deadline)
        if outcome is None:
            known.no_lookup_before = max(known.no_lookup_before, self._clock() + self._timeout)
        return outcome

    async def _begin(self, name: str, client: str | None, deadline: float) -> CertificateLookup | None:
        """Begin a lookup for a name without a certificate, if the limit of unknown hosts allows it. None = it was
        waited for: look again. Raises NoCertificate."""
        if client is None:
            self._start(name, LookupPriority.KNOWN, None)
        else:
            turn = await self._admission.turn(name, client, deadline)
            if turn is LookupTurn.REFUSED:
                raise NoCertificate(Alert.INTERNAL_ERROR, "refused")
            if turn is LookupTurn.WAITED:
                return None
        lookup = self._asking.get(name)
        if lookup is None:
            raise NoCertificate(Alert.INTERNAL_ERROR, "failed")
        return lookup

    def _ask_unknown(
        self, hostname: str, priority: LookupPriority, charge: Callable[[], LookupCharge]
    ) -> CertificateLookup | None:
        """Begin a lookup that was admitted, unless something is known by now."""
        if hostname in self._asking or self.table.get(hostname) is not None:
            return None
        return self._start(hostname, priority, charge)

    def _served(self, found: NameState) -> Certificate | None:
        """Record the use, and ask in the background if it is time."""
        if found.known is None:
            return None
        self.table.used(found.known)
        self.results["fresh" if found.state is CertificateState.FRESH else "stale"] += 1
        if found.ask_for is not None and found.ask_for not in self._asking:
            self._start(found.ask_for, LookupPriority.KNOWN, None)
        return found.known.certificate

    # for operators and the change stream

    def explain(self, hostname: str) -> ExplainedCertificate | None:
        """Explain the certificate of a name to operators; None = nothing is known."""
        known, wall = self.table.get(hostname), self._wall()
        return explain_certificate(
            None if known is None else known.certificate,
            state=self.table.look_up(hostname, self._clock(), wall).state.name.lower(),
            source=SOURCE,
            last_error=self.table.last_error(hostname),
            wall=wall,
        )

    def changed(self, name: str) -> None:
        """Something about the certificate of this name, or wildcard, has changed: ask for it at its next use."""
        self.table.mark_stale(name, self._clock())
        if name in self._asking:
            self._asking[name].is_outdated = True

    def all_changed(self) -> None:
        """Everything may have changed, as after a gap in the change stream."""
        self.table.mark_all_stale(self._clock())
        for lookup in self._asking.values():
            lookup.is_outdated = True

    def invalidate(self, name: str) -> bool:
        """Ask for this name before its next use, and accept any response. Returns whether anything was known."""
        if name in self._asking:
            self._asking[name].is_outdated = True
        return self.table.invalidate(name)

    # lookups

    def _start(
        self, hostname: str, priority: LookupPriority, charge: Callable[[], LookupCharge] | None
    ) -> CertificateLookup | None:
        """Begin a lookup. None = the source fails, or there are too many."""
        if len(self._asking) >= MOST_LOOKUPS or not self._circuit.claim_lookup(hostname):
            return None
        lookup = self._asking[hostname] = CertificateLookup(hostname)
        paid = None if charge is None else charge()
        lookup.task = asyncio.get_running_loop().create_task(
            self._ask(lookup, priority, paid), name=f"certificate of {hostname}"
        )
        return lookup

    def _start_witness(self, known: str) -> None:
        lookup = self._asking[known] = CertificateLookup(known)
        lookup.task = asyncio.get_running_loop().create_task(self._ask(lookup, LookupPriority.KNOWN, None))

    async def _ask(self, lookup: CertificateLookup, priority: LookupPriority, charge: LookupCharge | None) -> None:
        """One lookup with all that follows from it. Raises nothing but CancelledError."""
        hostname = lookup.hostname
        outcome: Outcome = NoCertificate(Alert.INTERNAL_ERROR, "closed")
        try:
            outcome = await self._outcome(lookup, priority)
        except Exception as error:  # a fault of styx must not leave handshakes waiting
            log.exception(
                "certificate lookup failed with an internal error",
                extra={"code": "certificate_fault", "hostname": hostname},
            )
            outcome = self._failed(hostname, CoreApiError(f"{type(error).__name__}: {error}", service_failed=False))
        finally:
            del self._asking[hostname]
            if charge is not None:
                is_unknown = isinstance(outcome, NoCertificate) and outcome.alert is Alert.UNRECOGNIZED_NAME
                self._limit.end(charge, self._clock(), unknown=is_unknown)
            for waiter in lookup.take_waiters():
                self._deferred.add(partial(release, waiter, outcome))

    async def _outcome(self, lookup: CertificateLookup, priority: LookupPriority) -> Outcome:
        hostname = lookup.hostname
        pause = self.table.issued_at(hostname) - self._clock()
        while True:
            if pause > 0.0:
                await asyncio.sleep(pause)
            try:
                async with FairTimeout(self._timeout):
                    result = await self._ask_source(hostname, priority)
            except TimeoutError:
                return self._failed(hostname, CoreApiError(f"no response within {self._timeout:g} s"))
            except CoreApiError as error:
                if not error.service_failed:
                    self._record_response()
                return self._failed(hostname, error)
            if result is None:  # a wildcard's certificate has arrived while this one waited for a slot
                return self._now_known(hostname)
            self._record_response()
            if result.retry_after is None:
                return self._take(lookup, result)
            pause = max(result.retry_after, SHORTEST_RETRY)
            until = self._clock() + pause
            self.table.put_issuing(hostname, until, now=self._clock(), wall=self._wall())
            if self.table.issued_at(hostname) == 0.0 or until >= lookup.until:
                return self._now_known(hostname, "issuing")

    async def _ask_source(self, hostname: str, priority: LookupPriority) -> CertificateResult | None:
        """Ask the source, and once more after a moment if that fails. None = it is known by now. Raises
        CoreApiError."""
        was_known = self.table.get(hostname) is not None
        for is_last in (self._circuit.is_open, True):
            async with self._slots.slot(priority):
                known = self.table.get(hostname)
                if known is not None and not was_known:
                    return None
                try:
                    return await self._source.ask(hostname, known.validator if known is not None else None)
                except CoreApiError as error:
                    if is_last or not error.service_failed:
                        raise
            await asyncio.sleep(AGAIN_AFTER * (0.5 + self._rand()))
        raise AssertionError

    def _take(self, lookup: CertificateLookup, result: CertificateResult) -> Outcome:
        """Take over a result. Returns the certificate to serve now, or why there is none."""
        hostname, now, wall, rand = lookup.hostname, self._clock(), self._wall(), self._rand()
        rejection: CertificateRejection | None = None
        if result.not_modified:
            known = self.table.get(hostname)
            if known is not None and known.etag == result.etag:
                self.table.renew(hostname, result.cache_control, now=now, wall=wall, rand=rand)
        elif result.response is None:
            rejection = self.table.put_absent(hostname, result.cache_control, now=now, wall=wall)
            if rejection is None and self.table.look_up(hostname, now, wall).known is None:
                return NoCertificate(Alert.UNRECOGNIZED_NAME, "absent")
        else:
            try:
                certificate, remarks = certificate_of(result.response, hostname, wall, self._chains)
            except UnusableCertificate as error:
                self._events.log_rejection(hostname, error.fault, str(error), now)
                return self._failed(hostname, CoreApiError(str(error), service_failed=False, code=error.fault))
            for remark in remarks:
                self._events.log_rejection(hostname, remark.fault, remark.words, now)
            rejection = self.table.put(
                hostname,
                certificate,
                etag=result.etag,
                cache_control=result.cache_control,
                now=now,
                wall=wall,
                rand=rand,
            )
        if rejection is not None:
            details = "it is accepted when it was repeated, or after an invalidation"
            self._events.log_rejection(hostname, rejection, details, now)
        if lookup.is_outdated:  # something changed during the lookup: the result may be from before
            self.table.mark_stale(hostname, now)
        return self._now_known(hostname)

    def _failed(self, hostname: str, error: CoreApiError) -> Outcome:
        """Record a failed lookup. Returns the certificate that is served in spite of it, or why there is none."""
        now = self._clock()
        if error.service_failed and self._circuit.record_failure(hostname, connected=error.connected):
            log.error("certificate circuit open", extra={"code": "certificate_circuit_open"})
        pause = PAUSE_AFTER_FAILURE * (1.0 + self._rand())
        self.table.put_failed(hostname, str(error), now=now, wall=self._wall(), pause=pause)
        self._events.log_failure(hostname, str(error), now)
        outcome = self._now_known(hostname)
        if isinstance(outcome, NoCertificate) and error.about_hostname:
            return NoCertificate(Alert.UNRECOGNIZED_NAME, "absent")
        return outcome

    def _record_response(self) -> None:
        if self._circuit.record_response():
            log.warning("certificate circuit closed", extra={"code": "certificate_circuit_closed"})

    def _now_known(self, hostname: str, otherwise: str = "failed") -> Outcome:
        """The certificate that may be served now, or why there is none."""
        known = self.table.look_up(hostname, self._clock(), self._wall()).known
        return NoCertificate(Alert.INTERNAL_ERROR, otherwise) if known is None else known.certificate
