"""Which client an address belongs to, and which network a client."""

import pytest

from edge.rules.limits.client_key import client_key, client_name, network_of, wider_prefixes


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.7", "192.0.2.8", False),
        ("192.0.2.7", "192.0.2.7:49152", True),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("192.0.2.7", "64:ff9b::c000:207", True),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8", False),
        ("64:ff9b::c000:207", "64:ff9b::c000:208", False),
        ("2001:db8::1", "[2001:DB8:0::2]:443", True),
        ("2001:db8::1", "[2001:db8::1]", True),
        ("2001:db8::", "2001:db8:0:1::", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::1", "::2", True),
        ("no:address", "no:other", False),
        ("[", "[[", False),
        ("unknown", "", False),
    ],
)
def test_which_addresses_are_one_client(one: str, other: str, same: bool) -> None:
    assert (client_key(one) == client_key(other)) == same


def test_wider_prefixes_of_ipv6_only() -> None:
    key = client_key("2001:db8:1:203::1")
    assert wider_prefixes(key) == (bytes.fromhex("20010db8000102"), bytes.fromhex("20010db80001"))
    assert wider_prefixes(wider_prefixes(key)[0]) == wider_prefixes(key)[1:]
    assert wider_prefixes(wider_prefixes(key)[1]) == ()
    assert wider_prefixes(client_key("192.0.2.7")) == ()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("203.0.113.7", "203.0.1.1", True),
        ("203.0.113.7", "203.1.113.7", False),
        ("2001:db8:1::1", "2001:db8:ffff::1", True),
        ("2001:db8::1", "2001:db9::1", False),
        ("", "unknown", False),
    ],
)
def test_which_clients_are_of_one_network(one: str, other: str, same: bool) -> None:
    assert (network_of(client_key(one)) == network_of(client_key(other))) == same


def test_all_keys_of_a_prefix_are_of_its_network() -> None:
    key = client_key("2001:db8:1:203::1")
    assert {network_of(prefix) for prefix in (key, *wider_prefixes(key))} == {bytes.fromhex("20010db8")}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (client_key("192.0.2.7"), "192.0.2.7"),
        (client_key("2001:db8::1"), "2001:db8::/64"),
        (wider_prefixes(client_key("2001:db8:0:1ff::1"))[0], "2001:db8:0:100::/56"),
        (wider_prefixes(client_key("2001:db8:1::1"))[1], "2001:db8:1::/48"),
    ],
)
def test_the_name_of_a_client(key: str | bytes, name: str) -> None:
    assert client_name(key) == name
