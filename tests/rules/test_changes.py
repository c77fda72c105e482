"""What an event of the core API's stream means."""

import pytest

from edge.rules.changes import EVERYTHING, Change, change_in


@pytest.mark.parametrize(
    ("data", "change"),
    [
        (b'{"hostname": "Shop.Example.org."}', Change("hostname", "shop.example.org")),
        (b'{"environment": "live", "site": "acme"}', Change("environment", "acme/live")),
        (b'{"site": "acme"}', Change("site", "acme")),
        (b'{"server": "srv-1"}', Change("server", "srv-1")),
        (b'{"all": true}', EVERYTHING),
        (b'{"hostname": "a.test", "why": {"later": ["members"]}}', Change("hostname", "a.test")),
    ],
)
def test_what_it_says(data: bytes, change: Change) -> None:
    assert change_in(data) == change


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"hostname": 7}', b'{"environment": "live"}', b"\xff"])
def test_what_is_not_understood_means_everything(data: bytes) -> None:
    assert change_in(data) is EVERYTHING
