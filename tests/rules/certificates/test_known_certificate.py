"""The lifetime of a certificate."""

from math import inf

import pytest

from edge.rules.certificates.certificates import Certificate, KeyKind, KeyPair
from edge.rules.certificates.known_certificate import RENEW_AGAIN_AFTER, KnownCertificate
from edge.rules.routing.freshness import Lifetime
from tests.support.sample_certificates import DAY, WALL

NOW = 1000.0


def known_for(days: float = 90.0, of: float = 90.0) -> KnownCertificate:
    """One that is valid for so many days from now on, of so many in all."""
    dates = WALL + (days - of) * DAY, WALL + days * DAY
    pair = KeyPair(KeyKind.ECDSA, b"leaf", (), b"key", dates)
    return KnownCertificate("a.test", Certificate(("a.test",), (pair,), ("h2",)), None)


def test_a_lifetime() -> None:
    known = known_for()
    known.renew(Lifetime(100.0, 20.0, 50.0), NOW, WALL)
    assert (known.fresh_until, known.expired_at, known.gone_at) == (NOW + 100, NOW + 120, NOW + 150)
    assert known.no_lookup_before == NOW + 90
    known.renew(Lifetime(100.0, inf, inf), NOW, WALL, shortened=0.2)
    assert (known.fresh_until, known.gone_at) == (NOW + 80, inf)


def test_it_is_usable_until_the_first_of_both_ends() -> None:
    known = known_for(days=1)
    known.renew(Lifetime(100.0, 0.0, inf), NOW, WALL)
    assert known.is_usable(NOW + 1e6, WALL + DAY - 1)
    assert not known.is_usable(NOW, WALL + DAY)
    known.renew(Lifetime(100.0, 0.0, 50.0), NOW, WALL)
    assert known.is_usable(NOW + 149, WALL)
    assert not known.is_usable(NOW + 150, WALL)


@pytest.mark.parametrize(("days", "of", "ahead"), [(90, 90, 7 * DAY), (30, 30, 3 * DAY), (6, 6, 0.6 * DAY)])
def test_it_is_stale_ahead_of_its_end(days: float, of: float, ahead: float) -> None:
    known = known_for(days, of)
    known.renew(Lifetime(1000 * DAY, 0.0, 0.0), NOW, WALL)
    assert known.fresh_until == pytest.approx(NOW + days * DAY - ahead)
    assert known.no_lookup_before == known.fresh_until
    assert known.expired_at == NOW + 1000 * DAY, "it may be used meanwhile"


def test_one_that_ends_soon_is_not_asked_for_at_each_use() -> None:
    known = known_for(days=1)
    known.renew(Lifetime(DAY, inf, inf), NOW, WALL)
    assert known.fresh_until == NOW
    assert known.no_lookup_before == NOW + RENEW_AGAIN_AFTER
    known.renew(Lifetime(60.0, inf, inf), NOW, WALL)
    assert known.no_lookup_before == NOW + 60


def test_doubts() -> None:
    known = known_for()
    assert known.doubt(NOW, 30.0)
    assert known.doubt(NOW + 29, 30.0)
    assert not known.doubt(NOW + 30, 30.0)
    known.renew(Lifetime(60.0, inf, inf), NOW, WALL)
    assert known.doubt(NOW + 31, 30.0), "a confirmation ends the doubt"
    assert known.doubt(NOW + 10_000, 30.0), "it was not repeated"
    known.invalidate()
    assert not known.doubt(NOW + 10_000, 30.0)


def test_an_invalidated_one_needs_a_complete_response() -> None:
    known = known_for()
    known.etag = '"1"'
    assert known.validator == '"1"'
    known.invalidate()
    assert known.validator is None
    known.renew(Lifetime(60.0, inf, inf), NOW, WALL)
    assert known.validator == '"1"'
