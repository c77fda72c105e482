"""The table of a worker's certificates from the core API, by name: which may be used, which must be looked up
again, and which names have none.

    fresh ── max-age ──► stale ── stale-while-revalidate ──► expired ── stale-if-error, notAfter ──► unknown
    use                  use, ask in the background          ask first, use if that fails

Without directives in Cache-Control a stale certificate is used until its notAfter, so that a core API that is gone
stops no site. Nothing is used after its notAfter. There are two clocks: `now` only goes forward, as for routes;
`wall` is in seconds since the epoch, because notAfter is.
"""

from collections import OrderedDict
from collections.abc import Iterator
from enum import Enum, StrEnum
from heapq import heapify, heappop, heappush
from math import inf
from typing import Final, NamedTuple

from cachetools import LRUCache

from edge.rules.balancing.circuit_breaker import KnownHostname
from edge.rules.certificates.certificate_names import wildcard_of
from edge.rules.certificates.certificates import Certificate
from edge.rules.certificates.known_certificate import KnownCertificate
from edge.rules.routing.freshness import LONGEST_UNKNOWN, Lifetime, lifetime_of
from edge.rules.settings import RouteSettings, TlsSettings

FAILED_FOR: Final = 1.0
"Seconds for which a name without a certificate is not asked for after a failed lookup."
ASK_AGAIN_AFTER: Final = 5.0
"The same for a certificate whose successor was not accepted."
_OUTDATED: Final = 1000
"Ends of certificates that have left the table, besides as many as there are in it, that may wait in the heap."


class CertificateState(Enum):
    """The state of a name, by which a handshake is served, waits or fails."""

    FRESH = "use"
    STALE = "use, and ask in the background"
    EXPIRED = "ask, and use it if that fails"
    ABSENT = "refuse: there is none"
    ISSUING = "wait: it is being issued"
    FAILED = "refuse: it could not be asked for"
    UNKNOWN = "ask"


class CertificateRejection(StrEnum):
    """Why a response does not replace a known certificate. The value is the code in the event log, and a metric
    label."""

    LOWER_GENERATION = "lower_generation"
    UNCONFIRMED = "removal_unconfirmed"


class NameState(NamedTuple):
    """The entry of a name."""

    state: CertificateState
    known: KnownCertificate | None
    "The certificate to use: if it is fresh, stale or expired."
    ask_for: str | None
    "The hostname to ask for now, before or besides its use; None = no lookup is due."


class _Miss(NamedTuple):
    state: CertificateState
    until: float
    reason: str


class CertificateTable:
    """The certificates of one worker: at most `tls.capacity`, of `tls.memory` bytes. The least recently used ones
    are evicted."""

    __slots__ = (
        "_all_changed_at",
        "_by_name",
        "_changed_names",
        "_ends",
        "_inserted",
        "_misses",
        "_numbered",
        "_recent",
        "_routes",
        "_tls",
        "size",
    )

    def __init__(self, tls: TlsSettings, routes: RouteSettings) -> None:
        """`routes`: for how long names without a certificate, and doubts, are remembered; as for routes."""
        self._tls = tls
        self._routes = routes
        self._by_name: dict[str, KnownCertificate] = {}
        self._recent: OrderedDict[KnownCertificate, int] = OrderedDict()
        "All certificates, the most recently used last, and the number of each."
        self._inserted = 0
        "Certificates that were inserted so far; the number of the last one."
        self._numbered: dict[int, KnownCertificate] = {}
        "All certificates by their numbers."
        self._misses: LRUCache[str, _Miss] = LRUCache(routes.unknown_host_capacity)
        "Names without a certificate, and why. (A name that is here has no entry in the table of its own.)"
        self._changed_names: LRUCache[str, float] = LRUCache(routes.unknown_host_capacity)
        "Names of which a change was told, and which have no certificate of their own, but a wildcard's."
        self._all_changed_at = -1.0
        self._ends: list[tuple[float, int]] = []
        """A heap of notAfter, with numbers. The first one is in the table, later ones may have left it: so it holds
        no certificates, which would stay in memory with their private keys."""
        self.size = 0
        "Bytes of all certificates."

    def __len__(self) -> int:
        return len(self._recent)

    def recently_used(self) -> Iterator[KnownHostname]:
        """The hostnames of the certificates, the most recently used first. Each one is its own owner."""
        return (KnownHostname(known.hostname, known.hostname) for known in reversed(self._recent))

    def owner_of(self, hostname: str) -> str | None:
        """The hostname of the certificate that serves this hostname; None = there is none."""
        known = self.get(hostname)
        return None if known is None else known.hostname

    @property
    def misses(self) -> int:
        """Number of names that are known to have no certificate now."""
        return len(self._misses)

    @property
    def soonest_not_after(self) -> float | None:
        """The earliest notAfter of all certificates, in seconds since the epoch; None = there is none."""
        return self._ends[0][0] if self._ends else None

    def ending_first(self, most: int) -> list[KnownCertificate]:
        """The certificates that end first, in this order; at most so many. Takes microseconds for each of them."""
        ends, found = self._ends, list[KnownCertificate]()
        # The children of the n-th in a heap are the ones at 2n + 1 and 2n + 2, and end later.
        reachable = [(ends[0], 0)] if ends else []
        while reachable and len(found) < most:
            (_, number), at = heappop(reachable)
            known = self._numbered.get(number)
            if known is not None:
                found.append(known)
            for child in (2 * at + 1, 2 * at + 2):
                if child < len(ends):
                    heappush(reachable, (ends[child], child))
        return found

    def get(self, hostname: str) -> KnownCertificate | None:
        """The certificate of a name, however old: its own, else that of the wildcard that covers it."""
        return self._by_name.get(hostname) or self._by_name.get(wildcard_of(hostname))

    def look_up(self, hostname: str, now: float, wall: float) -> NameState:
        """What is known of a name, and whether it is time to ask."""
        known = self._usable(hostname, now, wall)
        if known is None:
            miss = self._misses.get(hostname) if self._misses else None
            if miss is None or now >= miss.until:
                return NameState(CertificateState.UNKNOWN, None, hostname)
            return NameState(miss.state, None, None)
        if known.taken_at <= self._all_changed_at and known.changed_at < self._all_changed_at:
            known.mark_stale(self._all_changed_at)
        not_before = self._own_lookup_at(hostname, known)
        if not_before is not None:
            return NameState(CertificateState.STALE, known, hostname if now >= not_before else None)
        is_due = now >= known.no_lookup_before
        if now < known.fresh_until:
            state = CertificateState.FRESH
        elif now < known.expired_at or not is_due:  # not due: a lookup has just failed
            state = CertificateState.STALE
        else:
            state = CertificateState.EXPIRED
        return NameState(state, known, self._hostname_to_look_up(hostname, known) if is_due else None)

    def _own_lookup_at(self, hostname: str, known: KnownCertificate) -> float | None:
        """When to ask for a name to which a wildcard's certificate is served although it may have one of its own: a
        change of it was told, or it had one that is over. Else None."""
        own = self._by_name.get(hostname)
        if own is not None:
            return None if own is known else own.no_lookup_before
        return self._changed_names.get(hostname) if self._changed_names else None

    def _hostname_to_look_up(self, hostname: str, known: KnownCertificate) -> str:
        """The hostname to ask for to renew the certificate of this name.

        For a wildcard's it is the one that was asked for before: clients choose the names below it, of which the
        core API may know nothing.
        """
        is_own = self._by_name.get(hostname) is known
        return hostname if is_own or self.get(known.hostname) is not known else known.hostname

    def used(self, known: KnownCertificate) -> None:
        """Record a use, which delays the eviction."""
        if known in self._recent:
            self._recent.move_to_end(known)

    def put(
        self,
        hostname: str,
        certificate: Certificate,
        *,
        etag: str | None = None,
        cache_control: str | None,
        now: float,
        wall: float,
        rand: float,
    ) -> CertificateRejection | None:
        """Take the certificate in a response to a lookup for this hostname; it has been checked. Returns why it
        does not replace the one that is known, or None if it does.

        A lower generation is not believed until it was repeated for `routes.regression_after`.
        """
        self._misses.pop(hostname, None)
        self._changed_names.pop(hostname, None)
        before = self._about(hostname)
        if before is not None:
            is_lower = certificate.generation < before.certificate.generation
            if is_lower and before.is_usable(now, wall) and before.doubt(now, self._routes.regression_after):
                return _rejected(before, CertificateRejection.LOWER_GENERATION, now)
            if before.certificate.is_same(certificate):
                before.etag = etag
                self._renew(before, cache_control, now, wall, rand)
                return None
            self._drop(before)
        known = KnownCertificate(hostname, certificate, etag)
        self._renew(known, cache_control, now, wall, rand)
        self._insert(known)
        self._drop_ended(wall)
        self._evict()
        return None

    def renew(self, hostname: str, cache_control: str | None, *, now: float, wall: float, rand: float) -> None:
        """Record a 304 of the core API: the certificate that was asked for with this hostname still holds."""
        self._changed_names.pop(hostname, None)
        known = self._about(hostname)
        if known is not None:
            self._renew(known, cache_control, now, wall, rand)

    def put_absent(
        self, hostname: str, cache_control: str | None, *, now: float, wall: float
    ) -> CertificateRejection | None:
        """Record a 404: the core API has no certificate for this hostname. Returns why it is not believed: the one
        that is known is dropped when that was repeated for `routes.removal_hold`. A wildcard's is never dropped
        because of a name that it covers."""
        before = self._about(hostname)
        self._changed_names.pop(hostname, None)
        if before is not None:
            if before.is_usable(now, wall) and before.doubt(now, self._routes.removal_hold):
                return _rejected(before, CertificateRejection.UNCONFIRMED, now)
            self._drop(before)
        if self._usable(hostname, now, wall) is None:
            lifetime = lifetime_of(cache_control, Lifetime(self._routes.unknown_host_max_age, 0.0, 0.0))
            until = now + min(lifetime.max_age, LONGEST_UNKNOWN)
            self._misses[hostname] = _Miss(CertificateState.ABSENT, until, "the core API has none (404)")
        return None

    def put_failed(self, hostname: str, error: str, *, now: float, wall: float, pause: float) -> None:
        """Record that a lookup failed, or that its response cannot be used. A certificate that is known is not
        asked for again for `pause` seconds; a name without one is refused for a second."""
        self._put_off(hostname, _Miss(CertificateState.FAILED, now + FAILED_FOR, error), now, wall, now + pause)

    def put_issuing(self, hostname: str, until: float, *, now: float, wall: float) -> None:
        """Record that the certificate is being issued (503 with Retry-After): no lookup before `until`."""
        reason = "the certificate is being issued (503 with Retry-After)"
        self._put_off(hostname, _Miss(CertificateState.ISSUING, until, reason), now, wall, until)

    def _put_off(self, hostname: str, miss: _Miss, now: float, wall: float, until: float) -> None:
        known = self._about(hostname)
        if hostname in self._changed_names:
            self._changed_names[hostname] = until
        if known is not None:
            known.record_failure(miss.reason, until)
        if self._usable(hostname, now, wall) is None:
            self._misses[hostname] = miss

    def issued_at(self, hostname: str) -> float:
        """When to ask again for a certificate that is being issued; 0 = it is not."""
        miss = self._misses.get(hostname)
        return miss.until if miss is not None and miss.state is CertificateState.ISSUING else 0.0

    def last_error(self, hostname: str) -> str | None:
        """Why the last lookup for this name failed, or why there is no certificate; None = nothing is wrong."""
        known, miss = self.get(hostname), self._misses.get(hostname)
        return known.last_error if known is not None else None if miss is None else miss.reason

    # changes

    def mark_stale(self, name: str, now: float) -> bool:
        """A change was told: ask for this name, or wildcard, at its next use; what is known is used meanwhile.
        Returns whether anything was known of it."""
        missed = self._misses.pop(name, None) is not None
        known = self._by_name.get(name)
        if known is not None:
            known.mark_stale(now)
        elif self.get(name) is not None:
            self._changed_names[name] = now
        return missed or known is not None or name in self._changed_names

    def mark_all_stale(self, now: float) -> None:
        """Everything may have changed: ask for each name at its next use."""
        self._all_changed_at = now
        self._misses.clear()

    def invalidate(self, name: str) -> bool:
        """An operator's command: ask for this name before its next use, and accept any response. Returns whether
        anything was known of it."""
        known = self.get(name)
        if known is not None:
            known.invalidate()
        return self._misses.pop(name, None) is not None or known is not None

    # inside

    def _about(self, hostname: str) -> KnownCertificate | None:
        """The certificate that a response about this hostname is about: its own, or that of a wildcard which was
        learned by it."""
        known = self.get(hostname)
        if known is None or self._by_name.get(hostname) is known or known.hostname == hostname:
            return known
        return None

    def _renew(
        self, known: KnownCertificate, cache_control: str | None, now: float, wall: float, rand: float
    ) -> None:
        lifetime = lifetime_of(cache_control, Lifetime(self._tls.max_age, inf, inf))
        known.renew(lifetime, now, wall, shortened=self._routes.jitter * rand)

    def _usable(self, hostname: str, now: float, wall: float) -> KnownCertificate | None:
        """The certificate of a name, if it may be used: its own, else that of the wildcard that covers it."""
        for name in (hostname, wildcard_of(hostname)):
            known = self._by_name.get(name)
            if known is not None and known.is_usable(now, wall):
                return known
        return None

    def _insert(self, known: KnownCertificate) -> None:
        for name in known.certificate.names:
            other = self._by_name.get(name)
            self._by_name[name] = known
            if other is not None and not any(self._by_name.get(each) is other for each in other.certificate.names):
                self._drop(other)
        self._inserted = number = self._inserted + 1
        self._recent[known] = number
        self._numbered[number] = known
        self.size += known.certificate.size
        heappush(self._ends, (known.certificate.not_after, number))

    def _drop(self, known: KnownCertificate) -> None:
        number = self._recent.pop(known, None)
        if number is None:
            return
        del self._numbered[number]
        self.size -= known.certificate.size
        for name in known.certificate.names:
            if self._by_name.get(name) is known:
                del self._by_name[name]
        if len(self._ends) > 2 * len(self._recent) + _OUTDATED:
            self._ends = [(each.certificate.not_after, number) for number, each in self._numbered.items()]
            heapify(self._ends)
        while self._ends and self._ends[0][1] not in self._numbered:
            heappop(self._ends)

    def _drop_ended(self, wall: float) -> None:
        while self._ends and self._ends[0][0] <= wall:
            self._drop(self._numbered[self._ends[0][1]])

    def _evict(self) -> None:
        """Evict what was used least recently, but not the last one."""
        while len(self._recent) > 1 and (len(self._recent) > self._tls.capacity or self.size > self._tls.memory):
            self._drop(next(iter(self._recent)))


def _rejected(known: KnownCertificate, rejection: CertificateRejection, now: float) -> CertificateRejection:
    known.record_failure(f"{rejection.value}: accepted when repeated", now + ASK_AGAIN_AFTER)
    return rejection
