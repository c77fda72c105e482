"""What operators are told about a certificate."""

import pytest

from edge.rules.certificates.certificate_checks import checked_pair
from edge.rules.certificates.certificates import Certificate, SharedChains
from edge.rules.certificates.explain_certificate import DAY, explain_certificate
from edge.rules.explain_records import ExplainedCertificate
from tests.support.tls_parts import issue


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    pair = issue("shop.test", "*.shop.test")
    checked = checked_pair(pair.chain, pair.key, SharedChains())
    return Certificate(("shop.test", "*.shop.test"), (checked.pair,), ("h2",))


def explained(
    certificate: Certificate | None, wall: float, last_error: str | None = None
) -> ExplainedCertificate | None:
    return explain_certificate(certificate, state="fresh", source="the core API", last_error=last_error, wall=wall)


def test_a_known_certificate(certificate: Certificate) -> None:
    found = explained(certificate, certificate.not_after - 42 * DAY, "status 500")
    assert found is not None
    assert (found.names, found.state, found.last_error) == (["shop.test", "*.shop.test"], "fresh", "status 500")
    assert (found.days_left, found.not_after) == (42.0, certificate.not_after)
    assert "trustme" in found.issuer


def test_one_that_has_ended(certificate: Certificate) -> None:
    found = explained(certificate, certificate.not_after)
    assert found is not None
    assert (found.state, found.days_left) == ("ended", 0.0)


def test_none() -> None:
    assert explained(None, 0.0) is None
    found = explained(None, 0.0, "the core API has none (404)")
    assert found is not None
    assert (found.names, found.days_left, found.last_error) == ([], None, "the core API has none (404)")
