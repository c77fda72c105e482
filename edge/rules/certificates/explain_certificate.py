"""Explains the certificate that would be served for a hostname, for operators."""

from typing import Final

from cryptography import x509

from edge.rules.certificates.certificates import Certificate
from edge.rules.environment_status_records import CertificateStatus
from edge.rules.explain_records import ExplainedCertificate

DAY: Final = 86_400.0
MOST_ENDING: Final = 10
"Certificates on the status page: those that end first."


def explain_certificate(
    certificate: Certificate | None, *, state: str, source: str, last_error: str | None, wall: float
) -> ExplainedCertificate | None:
    """What is known of a certificate at `wall`, seconds since the epoch. None = nothing is known. `state`: a word.
    `last_error`: why the last lookup for it failed."""
    if certificate is None:
        if last_error is None:
            return None
        return ExplainedCertificate([], "", None, None, state, source, last_error)
    leaf = x509.load_der_x509_certificate(certificate.pairs[0].leaf)
    return ExplainedCertificate(
        list(certificate.names),
        leaf.issuer.rfc4514_string(),
        certificate.not_after,
        (certificate.not_after - wall) / DAY,
        "ended" if wall >= certificate.not_after else state,
        source,
        last_error,
    )


def certificate_status(certificate: Certificate, source: str, last_error: str | None) -> CertificateStatus:
    """Describe a certificate for the status page."""
    return CertificateStatus(
        certificate.names[0], len(certificate.names) - 1, certificate.not_after, source, last_error
    )
