"""A backend may not be the edge itself."""

import socket

import pytest

from edge.net.routing.own_addresses import OwnAddresses, is_local
from edge.rules.settings import Settings


def own(listener: str, admin: str = "127.0.0.1:9901") -> OwnAddresses:
    settings = Settings.model_validate(
        {
            "listeners": ({"address": listener},),
            "admin": {"address": admin},
            "core_api": {"url": "http://127.0.0.1:1"},
        }
    )
    return OwnAddresses(settings, is_local=lambda address: address in ("10.0.0.1", "127.0.0.1", "::1"))


@pytest.mark.parametrize(
    ("listener", "address", "port", "held"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("127.0.0.1:8080", "127.0.0.1", 9901, True),
        ("127.0.0.1:8080", "127.0.0.1", 8081, False),
        ("127.0.0.1:8080", "10.0.0.1", 8080, False),
        (":8080", "10.0.0.1", 8080, True),
        ("0.0.0.0:8080", "10.0.0.1", 8080, True),
        ("0.0.0.0:8080", "10.0.0.2", 8080, False),
        ("[::]:8080", "::1", 8080, True),
        ("unix:/run/styx.sock", "127.0.0.1", 8080, False),
        ("unix:/run/styx.sock", "/run/styx.sock", 0, True),
        ("unix:/run/styx.sock", "/run/../run/styx.sock", 0, True),
        ("unix:/run/styx.sock", "/run/other.sock", 0, False),
        ("localhost:8080", "::1", 8080, True),
    ],
)
def test_addresses_of_the_edge(listener: str, address: str, port: int, *, held: bool) -> None:
    assert own(listener).holds(address, port) is held


def test_a_port_chosen_by_the_system() -> None:
    mine = own("127.0.0.1:0")
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        assert not mine.holds("127.0.0.1", port)
        mine.add_socket(sock)
        assert mine.holds("127.0.0.1", port)


def test_addresses_of_this_machine() -> None:
    assert is_local("127.0.0.1")
    assert is_local("127.8.9.10")
    assert not is_local("192.0.2.1"), "TEST-NET-1, RFC 5737"
    assert not is_local("no address")
