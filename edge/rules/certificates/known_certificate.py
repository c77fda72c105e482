"""A certificate that the core API has sent, and how long it may be used.

Times are of the clock `now`, which only goes forward; notAfter is compared with `wall`, seconds since the epoch.
"""

from typing import Final

from edge.rules.certificates.certificates import Certificate
from edge.rules.routing.freshness import Lifetime
from edge.rules.routing.removal_guard import FORGOTTEN_AFTER

RENEWED_AHEAD: Final = 0.1
LONGEST_AHEAD: Final = 7 * 86400.0
"Part of the time between notBefore and notAfter, and seconds at most, before the end of which it is stale."
RENEW_AGAIN_AFTER: Final = 600.0
"Seconds, at most, between two lookups for a certificate that ends soon."
ASKED_AHEAD: Final = 0.1
LONGEST_ASKED_AHEAD: Final = 10.0
"Part of its max-age, and seconds at most, before the end of which one in use is asked for, as routes are."


class KnownCertificate:
    """A certificate with its lifetime. It is replaced as a whole, and needs no timer."""

    __slots__ = (
        "accepts_any",
        "certificate",
        "changed_at",
        "doubted_at",
        "doubted_since",
        "etag",
        "expired_at",
        "fresh_until",
        "gone_at",
        "hostname",
        "last_error",
        "no_lookup_before",
        "taken_at",
    )

    def __init__(self, hostname: str, certificate: Certificate, etag: str | None) -> None:
        self.hostname = hostname
        "The hostname that was asked for. The certificate may be one for other names too."
        self.certificate = certificate
        self.etag = etag
        self.taken_at = self.fresh_until = self.expired_at = self.gone_at = 0.0
        self.changed_at = -1.0
        "Time of the last change that concerned it; -1 = none. Responses to earlier lookups are stale."
        self.no_lookup_before = 0.0
        "Time before which it is not asked for in the background."
        self.last_error: str | None = None
        self.doubted_since = self.doubted_at = -1.0
        "Since when, and when last, responses have contradicted it without being believed; -1 = never."
        self.accepts_any = False
        "Whether the next response is accepted in any case: an operator has invalidated it."

    def __repr__(self) -> str:
        return f"<KnownCertificate {self.hostname} {self.certificate!r}>"

    @property
    def validator(self) -> str | None:
        """The entity tag to send to the core API; None = the response must be a complete one."""
        return None if self.accepts_any else self.etag

    def is_usable(self, now: float, wall: float) -> bool:
        """Whether it may be used at all, if only because a lookup fails."""
        return wall < self.certificate.not_after and now < self.gone_at

    def renew(self, lifetime: Lifetime, now: float, wall: float, *, shortened: float = 0.0) -> None:
        """Start its lifetime again: the core API has just confirmed it. `shortened`: the part of max-age that is
        taken off."""
        certificate = self.certificate
        left = certificate.not_after - wall
        ahead = min(LONGEST_AHEAD, RENEWED_AHEAD * (certificate.not_after - certificate.not_before))
        max_age = lifetime.max_age * (1.0 - shortened)
        end = now + max_age
        if max_age <= left - ahead:
            self.fresh_until = end
            self.no_lookup_before = end - min(ASKED_AHEAD * max_age, LONGEST_ASKED_AHEAD)
        else:  # it ends soon: its successor is asked for, but not at each use
            self.fresh_until = now + max(0.0, left - ahead)
            pause = min(max_age, RENEW_AGAIN_AFTER * (1.0 - shortened))
            self.no_lookup_before = max(self.fresh_until, now + pause)
        self.taken_at = now
        self.expired_at = end + lifetime.stale_while_revalidate
        self.gone_at = max(self.expired_at, end + lifetime.stale_if_error)
        self.last_error = None
        self.doubted_since = -1.0
        self.accepts_any = False

    def mark_stale(self, now: float) -> None:
        """Mark it stale: something of it has changed. It is used while it is asked for."""
        self.changed_at = now
        self.fresh_until = min(self.fresh_until, now)
        self.no_lookup_before = min(self.no_lookup_before, now)

    def invalidate(self) -> None:
        """Require a lookup before its next use; its response is accepted in any case."""
        self.fresh_until = self.expired_at = self.no_lookup_before = 0.0
        self.last_error = None
        self.accepts_any = True

    def record_failure(self, error: str, until: float) -> None:
        """Record a failed lookup. There is no other before `until`."""
        self.last_error = error
        self.no_lookup_before = until

    def doubt(self, now: float, hold: float) -> bool:
        """Record a response that contradicts it. Returns whether that is not believed yet: it must have been
        repeated for `hold` seconds, unless an operator has invalidated the certificate."""
        if self.accepts_any:
            return False
        is_repeated = self.doubted_since >= 0.0 and now - self.doubted_at <= FORGOTTEN_AFTER
        self.doubted_since, self.doubted_at = self.doubted_since if is_repeated else now, now
        return now - self.doubted_since < hold
