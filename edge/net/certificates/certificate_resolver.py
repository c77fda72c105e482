"""Finds the certificate of a name: from the table, or by one question for all handshakes that wait for it.

    handshake ─► find ──────────────► known: served at once, and asked for in the background when it is time
                  └─► lookup ─► question to the source, one for each name ─► table ─► all that wait, a few per turn

What is decided is in the table (`certificate_table.py`); the questions, their deadlines and the waiting are here.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from edge.net.certificates.certificate_question import CertificateQuestion, NoCertificate, Outcome
from edge.net.certificates.core_api_certificates import CertificateResult, CertificateSource
from edge.net.deferred_queue import DeferredQueue
from edge.net.priority_semaphore import PrioritySemaphore
from edge.net.routing.core_api import CoreApiError
from edge.net.routing.lookup_circuit import LookupCircuit
from edge.rules.certificates.certificate_checks import CertificateFault, UnusableCertificate, certificate_of
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
from edge.rules.environment_status_records import CertificateStatus
from edge.rules.event_rate_limit import EventBudget
from edge.rules.explain_records import ExplainedCertificate
from edge.rules.limits.client_key import client_key
from edge.rules.limits.unknown_host_limit import LookupCharge, LookupDecision, LookupPriority, UnknownHostLimit
from edge.rules.tls.client_hello import Alert

PAUSE_AFTER_FAILURE: Final = 2.0
"Seconds after a failed question before a known certificate is asked for again, and up to twice as many."
AGAIN_AFTER: Final = 0.1
"Seconds, with 50 % jitter to both sides, after which a failed question is repeated once."
SHORTEST_RETRY: Final = 0.1
"Seconds between two questions for a certificate that is being issued, at least."
ADMISSION_PAUSE: Final = 0.1
"Seconds, and up to twice as many, after which a handshake that has to wait for a limit tries again."
MOST_QUESTIONS: Final = 10_000
"Questions under way, with those that wait for a slot. Beyond it, no other begins."
MOST_WAITING: Final = 10_000
"Handshakes that wait. Beyond it, others are refused."

_SOURCE: Final = "the core API"

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
        questions at once. `timeout`: seconds for one question, with the wait for a slot."""
        self.table = table
        self._source = source
        self._limit = limit
        self._deferred = deferred
        self._timeout = timeout
        self._clock, self._rand, self._wall = clock, rand, wall
        self._chains = SharedChains()
        self._asking: dict[str, CertificateQuestion] = {}
        self._slots = PrioritySemaphore(concurrency)
        self._circuit = LookupCircuit(table, self._asking, start=self._start_witness, clock=clock, rand=rand)
        self._events = EventBudget()
        self.results: Counter[str] = Counter()
        "Look-ups by result: fresh or stale = known, asked = a question gave it, or why there was none."
        self.waiting = 0
        "Handshakes that wait for a certificate."
        self.rejected: dict[str, int] = dict.fromkeys([*CertificateFault, *CertificateRejection], 0)
        "Certificates in responses that are not used, by reason."

    @property
    def soonest_not_after(self) -> float | None:
        """The earliest notAfter of all certificates, in seconds since the epoch; None = there is none."""
        return self.table.soonest_not_after

    def ending_first(self) -> list[CertificateStatus]:
        """The certificates that end first."""
        found = self.table.ending_first(MOST_ENDING)
        return [certificate_status(known.certificate, _SOURCE, known.last_error) for known in found]

    @property
    def asking(self) -> int:
        """Questions under way, with those that wait for a slot."""
        return len(self._asking)

    async def close(self) -> None:
        """Cancel all questions, refuse who waits, and close the source."""
        tasks = [question.task for question in self._asking.values() if question.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._source.close()

    # for handshakes

    def find(self, hostname: str) -> Certificate | None:
        """The certificate of a name, if it can be served at once. If it is time, it is asked for besides."""
        found = self.table.look_up(hostname, self._clock(), self._wall())
        return self._served(found) if found.state is not CertificateState.EXPIRED else None

    async def lookup(self, hostname: str, client: str | None, *, deadline: float) -> Certificate:
        """The certificate of a name. Waits until `deadline`, on the clock of the worker. `client`: address of who
        asks, who is charged if there is none; None = the edge itself. Raises NoCertificate."""
        self.waiting += 1
        try:
            if self.waiting > MOST_WAITING:
                raise NoCertificate(Alert.INTERNAL_ERROR, "busy")
            async with asyncio.timeout(max(0.0, deadline - self._clock())):
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
            self._refuse_known_misses(hostname, found.state, deadline)
            name = found.ask_for or hostname
            question = self._asking.get(name)
            if question is None and found.known is not None:
                question = self._start(name, LookupPriority.KNOWN, None)
                if question is None:  # it cannot be asked for now, as if the question had failed
                    self.results["stale"] += 1
                    return found.known.certificate
            elif question is None:
                question = await self._begin(name, client)
                if question is None:
                    continue
            outcome = await question.outcome(deadline)
            if name == hostname:
                found_now = _certificate_or_raise(outcome)
                self.results["asked"] += 1
                return found_now
            asked = name  # a wildcard's certificate was asked for by another name: see what that has changed

    def _refuse_known_misses(self, hostname: str, state: CertificateState, deadline: float) -> None:
        """Raise NoCertificate if it is known that there is none, or none in time."""
        if state is CertificateState.ABSENT:
            raise NoCertificate(Alert.UNRECOGNIZED_NAME, "absent")
        if state is CertificateState.FAILED:
            raise NoCertificate(Alert.INTERNAL_ERROR, "failed")
        if state is CertificateState.ISSUING and self.table.issued_at(hostname) >= deadline:
            raise NoCertificate(Alert.INTERNAL_ERROR, "issuing")

    async def _begin(self, name: str, client: str | None) -> CertificateQuestion | None:
        """Begin a question for a name without a certificate, if the limit of unknown hosts allows it. None = it did
        not, and time has passed. Raises NoCertificate."""
        charge, priority, now = None, LookupPriority.KNOWN, self._clock()
        if client is not None:
            key = client_key(client)
            decision = self._limit.decide(key, now)
            if decision is LookupDecision.REFUSED:
                raise NoCertificate(Alert.INTERNAL_ERROR, "refused")
            if decision not in (LookupDecision.RESERVED, LookupDecision.COMMON):
                room = 0.0 if decision is LookupDecision.AFTER_OWN else self._limit.room_in(decision, now)
                await asyncio.sleep(max(room, ADMISSION_PAUSE) * (1.0 + self._rand()))
                return None
            priority = self._limit.priority(key, now)
            charge = partial(self._limit.begin, key, decision)
        question = self._start(name, priority, charge)
        if question is None:
            raise NoCertificate(Alert.INTERNAL_ERROR, "failed")
        return question

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
        """What is known of the certificate of a name; None = nothing."""
        known, wall = self.table.get(hostname), self._wall()
        return explain_certificate(
            None if known is None else known.certificate,
            state=self.table.look_up(hostname, self._clock(), wall).state.name.lower(),
            source=_SOURCE,
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
        for question in self._asking.values():
            question.is_outdated = True

    def invalidate(self, name: str) -> bool:
        """Ask for this name before its next use, and accept any response. Returns whether anything was known."""
        if name in self._asking:
            self._asking[name].is_outdated = True
        return self.table.invalidate(name)

    # questions

    def _start(
        self, hostname: str, priority: LookupPriority, charge: Callable[[], LookupCharge] | None
    ) -> CertificateQuestion | None:
        """Begin a question. None = the source fails, or there are too many."""
        if len(self._asking) >= MOST_QUESTIONS or not self._circuit.claim_lookup(hostname):
            return None
        question = self._asking[hostname] = CertificateQuestion(hostname)
        paid = None if charge is None else charge()
        question.task = asyncio.get_running_loop().create_task(
            self._ask(question, priority, paid), name=f"certificate of {hostname}"
        )
        return question

    def _start_witness(self, known: str) -> None:
        question = self._asking[known] = CertificateQuestion(known)
        question.task = asyncio.get_running_loop().create_task(self._ask(question, LookupPriority.KNOWN, None))

    async def _ask(
        self, question: CertificateQuestion, priority: LookupPriority, charge: LookupCharge | None
    ) -> None:
        """One question with all that follows from it. Raises nothing but CancelledError."""
        hostname = question.hostname
        outcome: Outcome = NoCertificate(Alert.INTERNAL_ERROR, "closed")
        try:
            outcome = await self._outcome(question, priority)
        except Exception as error:  # a fault of styx must not leave handshakes waiting
            log.exception(
                "question for a certificate failed", extra={"code": "certificate_fault", "hostname": hostname}
            )
            outcome = self._failed(hostname, CoreApiError(f"{type(error).__name__}: {error}", service_failed=False))
        finally:
            del self._asking[hostname]
            if charge is not None:
                is_unknown = isinstance(outcome, NoCertificate) and outcome.alert is Alert.UNRECOGNIZED_NAME
                self._limit.end(charge, self._clock(), unknown=is_unknown)
            for waiter in question.take_waiters():
                self._deferred.add(partial(_release, waiter, outcome))

    async def _outcome(self, question: CertificateQuestion, priority: LookupPriority) -> Outcome:
        hostname = question.hostname
        pause = self.table.issued_at(hostname) - self._clock()
        while True:
            if pause > 0.0:
                await asyncio.sleep(pause)
            try:
                async with asyncio.timeout(self._timeout):
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
                return self._take(question, result)
            pause = max(result.retry_after, SHORTEST_RETRY)
            until = self._clock() + pause
            self.table.put_issuing(hostname, until, now=self._clock(), wall=self._wall())
            if self.table.issued_at(hostname) == 0.0 or until >= question.until:
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

    def _take(self, question: CertificateQuestion, result: CertificateResult) -> Outcome:
        """Take over a result. Returns the certificate to serve now, or why there is none."""
        hostname, now, wall, rand = question.hostname, self._clock(), self._wall(), self._rand()
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
                self._reject(hostname, error.fault, str(error))
                return self._failed(hostname, CoreApiError(str(error), service_failed=False, code=error.fault))
            for remark in remarks:
                self._reject(hostname, remark.fault, remark.words)
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
            self._reject(hostname, rejection, "it is accepted when it was repeated, or after an invalidation")
        if question.is_outdated:  # something changed during the question: the result may be from before
            self.table.mark_stale(hostname, now)
        return self._now_known(hostname)

    def _failed(self, hostname: str, error: CoreApiError) -> Outcome:
        """Record a failed question. Returns the certificate that is served in spite of it, or why there is none."""
        now = self._clock()
        if error.service_failed and self._circuit.record_failure(hostname, connected=error.connected):
            log.error("circuit of certificates open", extra={"code": "certificate_circuit_open"})
        pause = PAUSE_AFTER_FAILURE * (1.0 + self._rand())
        self.table.put_failed(hostname, str(error), now=now, wall=self._wall(), pause=pause)
        left_out = self._events.take(now)
        if left_out is not None:
            log.warning(
                "certificate not obtained",
                extra={
                    "code": "certificate_lookup_failed",
                    "hostname": hostname,
                    "reason": str(error),
                    "left_out_before": left_out,
                },
            )
        outcome = self._now_known(hostname)
        if isinstance(outcome, NoCertificate) and error.about_hostname:
            return NoCertificate(Alert.UNRECOGNIZED_NAME, "absent")
        return outcome

    def _record_response(self) -> None:
        if self._circuit.record_response():
            log.warning("circuit of certificates closed", extra={"code": "certificate_circuit_closed"})

    def _reject(self, hostname: str, reason: CertificateFault | CertificateRejection, words: str) -> None:
        """Tell and count a certificate that is not used."""
        self.rejected[reason] += 1
        left_out = self._events.take(self._clock())
        if left_out is not None:
            log.warning(
                "certificate rejected",
                extra={
                    "code": "certificate_rejected",
                    "certificate": hostname,
                    "reason": reason.value,
                    "details": words,
                    "source": _SOURCE,
                    "left_out_before": left_out,
                },
            )

    def _now_known(self, hostname: str, otherwise: str = "failed") -> Outcome:
        """The certificate that may be served now, or why there is none."""
        known = self.table.look_up(hostname, self._clock(), self._wall()).known
        return NoCertificate(Alert.INTERNAL_ERROR, otherwise) if known is None else known.certificate


def _certificate_or_raise(outcome: Outcome) -> Certificate:
    if isinstance(outcome, NoCertificate):
        raise NoCertificate(outcome.alert, outcome.reason)  # each one of its own: an exception keeps its traceback
    return outcome


def _release(waiter: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
    if not waiter.done():
        waiter.set_result(outcome)
