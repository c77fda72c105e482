"""Logs and counts what is wrong with certificates of a source that is asked: failed lookups, rejected responses.

A source that fails does so for many names at once, so all these events share one rate.
"""

import logging
from typing import Final

from edge.rules.certificates.certificate_checks import CertificateFault
from edge.rules.certificates.certificate_table import CertificateRejection
from edge.rules.event_rate_limit import EventBudget

SOURCE: Final = "the core API"

log = logging.getLogger("styx.certificates")


class CertificateEvents:
    """The events of one resolver."""

    __slots__ = ("_budget", "rejected")

    def __init__(self) -> None:
        self._budget = EventBudget()
        self.rejected: dict[str, int] = dict.fromkeys([*CertificateFault, *CertificateRejection], 0)
        "Certificates in responses that are not used, by reason."

    def log_failure(self, hostname: str, reason: str, now: float) -> None:
        """A lookup has failed."""
        left_out = self._budget.take(now)
        if left_out is not None:
            log.warning(
                "certificate lookup failed",
                extra={
                    "code": "certificate_lookup_failed",
                    "hostname": hostname,
                    "reason": reason,
                    "left_out_before": left_out,
                },
            )

    def log_rejection(
        self, hostname: str, reason: CertificateFault | CertificateRejection, details: str, now: float
    ) -> None:
        """A response is not used. Counts it."""
        self.rejected[reason] += 1
        left_out = self._budget.take(now)
        if left_out is not None:
            log.warning(
                "certificate rejected",
                extra={
                    "code": "certificate_rejected",
                    "certificate": hostname,
                    "reason": reason.value,
                    "details": details,
                    "source": SOURCE,
                    "left_out_before": left_out,
                },
            )
