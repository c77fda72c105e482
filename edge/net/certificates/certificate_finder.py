"""What the TLS step of the accept chain asks of a source of certificates: the core API, or a directory of files."""

from collections import Counter
from typing import Protocol

from edge.rules.certificates.certificates import Certificate
from edge.rules.environment_status_records import CertificateStatus
from edge.rules.explain_records import ExplainedCertificate


class CertificateFinder(Protocol):
    """Where the step of the accept chain gets certificates from: the core API, or a directory of files."""

    results: Counter[str]
    "Look-ups by result (`handshake_failures.CERTIFICATE_LOOKUPS`)."

    @property
    def soonest_not_after(self) -> float | None:
        """The earliest notAfter of all certificates, in seconds since the epoch; None = there is none."""

    def ending_first(self) -> list[CertificateStatus]:
        """The certificates that end first."""

    def find(self, hostname: str) -> Certificate | None:
        """The certificate of a name, if it can be served at once."""

    async def lookup(self, hostname: str, client: str | None, *, deadline: float) -> Certificate:
        """The certificate of a name. Waits until `deadline`, on the clock of the worker. `client`: address of who
        asks; None = the edge itself. Raises NoCertificate."""

    def explain(self, hostname: str) -> ExplainedCertificate | None:
        """What is known of the certificate of a name, for operators; None = nothing."""
