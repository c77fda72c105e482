"""Events of the change stream, and the changes that they mean."""

import pytest

from edge.rules.routing.change_records import Change
from edge.rules.routing.invalidation import EVERYTHING, LONGEST_NAME, LastChanges, change_in, understood


@pytest.mark.parametrize(
    ("data", "change"),
    [
        (b'{"hostname": "Shop.Example.org."}', Change("hostname", "shop.example.org")),
        (b'{"environment": "live", "site": "acme"}', Change("environment", "acme/live")),
        (b'{"site": "acme"}', Change("site", "acme")),
        (b'{"server": "srv-1"}', Change("server", "srv-1")),
        (b'{"certificate": "*.Shop.test."}', Change("certificate", "*.shop.test")),
        (b'{"certificate": "shop.test", "site": "acme"}', EVERYTHING),
        (b'{"all": true}', EVERYTHING),
        (b'{"hostname": "a.test", "why": {"later": ["members"]}}', Change("hostname", "a.test")),
    ],
)
def test_decoding_of_events(data: bytes, change: Change) -> None:
    assert change_in(data) == change


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"hostname": 7}', b'{"environment": "live"}', b"\xff"])
def test_an_unknown_event_is_a_change_of_everything(data: bytes) -> None:
    assert change_in(data) is EVERYTHING


def test_a_name_that_is_too_long_is_a_change_of_everything() -> None:
    """So that a message of many changes has a bound as well."""
    assert change_in(b'{"server": "%b"}' % (b"x" * LONGEST_NAME)).kind == "server"
    assert change_in(b'{"server": "%b"}' % (b"x" * (LONGEST_NAME + 1))) is EVERYTHING
    assert understood(Change("environment", "x" * (LONGEST_NAME + 1))) is EVERYTHING
    assert understood(Change("planet", "earth")) is EVERYTHING


# Times of the last changes


def test_too_many_changes_to_remember_are_a_change_of_everything() -> None:
    last, a, b, c = LastChanges(limit=2), *(Change("site", name) for name in "abc")
    last.note(a, 1.0)
    last.note(b, 2.0)
    assert (last.of([a]), last.of([b]), last.of([c])) == (1.0, 2.0, -1.0)
    last.note(a, 3.0)
    assert (last.of([a]), last.of([c])) == (3.0, -1.0), "one that is remembered needs no more room"
    last.note(c, 4.0)
    assert (last.of([a]), last.of([b]), last.of([])) == (4.0, 4.0, 4.0)
