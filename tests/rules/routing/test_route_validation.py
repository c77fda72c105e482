"""Validation of responses of the core API: only usable parts are used."""

from ipaddress import ip_network

import pytest

from edge.rules.routing.route_response import Backend, RouteResponse
from edge.rules.routing.route_validation import (
    LONGEST_NAME,
    MOST_BACKENDS,
    BackendPolicy,
    InvalidResponse,
    checked,
    redirect_fault,
)

ANYWHERE = BackendPolicy()
B1 = Backend("b1", "10.0.0.1", 8000)


def a_response(*backends: Backend, **members: object) -> RouteResponse:
    about = {"hostname": "shop.test", "site": "acme", "environment": "live", "generation": 1, **members}
    return RouteResponse(backends=backends, **about)  # type: ignore[arg-type]


def test_a_valid_response_is_unchanged() -> None:
    response = a_response(B1, Backend("b2", "fd00::7", 1, "srv", "standby", "asleep"), redirect="https://b.test/x")
    assert checked(response, "shop.test", ANYWHERE) == (response, [])


@pytest.mark.parametrize("hostname", ["SHOP.test", "shop.test."])
def test_spellings_of_the_hostname(hostname: str) -> None:
    checked(a_response(B1, hostname=hostname), "shop.test", ANYWHERE)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"hostname": "rival.test"}, "core_api_wrong_hostname"),
        ({"hostname": "*.test"}, "core_api_wrong_hostname"),
        ({"hostname": ""}, "core_api_wrong_hostname"),
        ({"site": ""}, "core_api_bad_response"),
        ({"site": "x" * (LONGEST_NAME + 1)}, "core_api_bad_response"),
        ({"environment": "x" * 100_000}, "core_api_bad_response"),
        ({"generation": 2**63}, "core_api_bad_response"),
        ({"generation": -(2**63) - 1}, "core_api_bad_response"),
        ({"redirect": ""}, "core_api_bad_redirect"),
    ],
)
def test_responses_that_are_rejected_as_a_whole(members: dict[str, object], code: str) -> None:
    with pytest.raises(InvalidResponse) as raised:
        checked(a_response(B1, **members), "shop.test", ANYWHERE)
    assert raised.value.code == code


BAD_BACKENDS = {
    "no id": Backend("", "10.0.0.2", 80),
    "a long id": Backend("x" * (LONGEST_NAME + 1), "10.0.0.2", 80),
    "a long server": Backend("b", "10.0.0.2", 80, "x" * (LONGEST_NAME + 1)),
    "the id of another": Backend("b1", "10.0.0.2", 80),
    "port 0": Backend("b", "10.0.0.2", 0),
    "port 65536": Backend("b", "10.0.0.2", 65536),
    "a negative port": Backend("b", "10.0.0.2", -1),
    "NUL": Backend("b", "10.0.0.2\0", 80),
    "NUL in a name": Backend("b", "a\0b", 80),
    "nothing": Backend("b", "", 80),
    "blanks": Backend("b", "10.0.0.2 ", 80),
    "a URL": Backend("b", "http://10.0.0.2", 80),
    "with a port": Backend("b", "10.0.0.2:80", 80),
    "unspecified": Backend("b", "0.0.0.0", 80),
    "unspecified, IPv6": Backend("b", "::", 80),
    "multicast": Backend("b", "224.0.0.1", 80),
    "multicast, IPv6": Backend("b", "ff02::1", 80),
    "broadcast": Backend("b", "255.255.255.255", 80),
    "inet_aton, short": Backend("b", "127.1", 80),
    "inet_aton, decimal": Backend("b", "2130706433", 80),
    "inet_aton, hexadecimal": Backend("b", "0x7f000001", 80),
    "inet_aton, octal": Backend("b", "0177.0.0.1", 80),
    "link-local": Backend("b", "169.254.169.254", 80),
    "link-local, IPv6": Backend("b", "fe80::1", 80),
    "link-local with a zone": Backend("b", "fe80::1%eth0", 80),
    "link-local, mapped": Backend("b", "::ffff:169.254.169.254", 80),
}


BAD_BACKENDS |= {
    "a relative path": Backend("b", "unix:run/b.sock"),
    "no path": Backend("b", "unix:"),
    "a long path": Backend("b", "unix:/" + "x" * 107),
    "NUL in a path": Backend("b", "unix:/run/\0b"),
    "an abstract socket": Backend("b", "unix:\0b"),
    "a lone surrogate": Backend("b", "unix:run/\ud800"),
    "a socket with a port": Backend("b", "unix:/run/b.sock", 80),
}


@pytest.mark.parametrize(
    ("sockets", "own", "code"),
    [
        (True, "/run/styx.sock", []),
        (False, "", ["core_api_bad_backend"]),
        (True, "/run/b.sock", ["core_api_bad_backend"]),
    ],
)
def test_backends_on_unix_sockets(sockets: bool, own: str, code: list[str]) -> None:
    policy = BackendPolicy(sockets=sockets, is_own=lambda address, port: (address, port) == (own, 0))
    there = Backend("b", "unix:/run/b.sock")
    response, remarks = checked(a_response(B1, there), "shop.test", policy)
    assert [remark.code for remark in remarks] == code
    assert response.backends == ((B1,) if code else (B1, there))


def test_the_endpoint_of_a_backend() -> None:
    assert (B1.endpoint, B1.path) == ("10.0.0.1:8000", "")
    there = Backend("b", "unix:/run/b.sock")
    assert (there.endpoint, there.path) == ("unix:/run/b.sock", "/run/b.sock")


@pytest.mark.parametrize("what", BAD_BACKENDS)
def test_a_backend_that_cannot_be_used_is_left_out_with_a_remark(what: str) -> None:
    response, remarks = checked(a_response(B1, BAD_BACKENDS[what]), "shop.test", ANYWHERE)
    assert response.backends == (B1,)
    assert [remark.code for remark in remarks] == ["core_api_bad_backend"]
    assert len(remarks[0].words) < 300


def test_a_response_without_a_usable_backend_is_rejected() -> None:
    with pytest.raises(InvalidResponse, match="no backend can be used"):
        checked(a_response(BAD_BACKENDS["NUL"], BAD_BACKENDS["port 0"]), "shop.test", ANYWHERE)
    assert checked(a_response(), "shop.test", ANYWHERE)[0].backends == (), "of none there is nothing wrong"


def test_the_number_of_backends_is_bounded() -> None:
    many = [Backend(f"b{n}", "10.0.0.1", 1 + n) for n in range(19_000)]
    response, remarks = checked(a_response(*many), "shop.test", ANYWHERE)
    assert response.backends == tuple(many[:MOST_BACKENDS])
    assert [remark.code for remark in remarks] == ["core_api_too_many_backends"]


def test_unknown_roles_and_states_cause_remarks() -> None:
    odd = Backend("b2", "10.0.0.2", 80, "", "primary", "dreaming")
    response, remarks = checked(a_response(odd), "shop.test", ANYWHERE)
    assert response.backends == (odd,)
    assert [remark.code for remark in remarks] == ["core_api_unknown_role", "core_api_unknown_state"]


@pytest.mark.parametrize(
    ("address", "networks", "loopback", "allowed"),
    [
        ("127.0.0.1", None, True, True),
        ("127.0.0.1", None, False, False),
        ("::1", None, False, False),
        ("::ffff:127.0.0.1", None, False, False),
        ("10.1.2.3", None, False, True),
        ("10.1.2.3", ["10.0.0.0/8"], False, True),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], False, True),
        ("11.1.2.3", ["10.0.0.0/8"], True, False),
        ("fd00::1", ["10.0.0.0/8", "fd00::/8"], False, True),
        ("127.0.0.1", ["10.0.0.0/8"], True, False),
        ("127.0.0.1", ["127.0.0.0/8"], False, True),
        ("169.254.1.1", ["169.254.0.0/16"], False, True),
        ("10.1.2.3", [], True, False),
        ("container-7.internal", ["10.0.0.0/8"], False, True),
    ],
)
def test_where_backends_may_be(address: str, networks: list[str] | None, *, loopback: bool, allowed: bool) -> None:
    chosen = None if networks is None else [ip_network(network) for network in networks]
    policy = BackendPolicy(chosen, loopback=loopback)
    assert (policy.fault_of(address, 80) == "") is allowed
    if not address.startswith("c"):
        assert policy.permits(address, 80) is allowed


def test_the_addresses_of_a_host_name_are_checked() -> None:
    policy = BackendPolicy([ip_network("10.0.0.0/8")])
    assert policy.permits("10.0.0.1", 80)
    assert not policy.permits("169.254.169.254", 80)
    assert not policy.permits("no address", 80)


def test_the_edge_itself_is_no_backend() -> None:
    policy = BackendPolicy(is_own=lambda address, port: (address, port) == ("10.0.0.1", 9901))
    assert policy.fault_of("10.0.0.1", 9901) == "is this edge itself"
    assert policy.fault_of("::ffff:10.0.0.1", 9901) == "is this edge itself"
    assert policy.fault_of("10.0.0.1", 9902) == ""


@pytest.mark.parametrize(
    "redirect",
    [
        "www.shop.test",
        "www.shop.test:8443",
        "https://www.shop.test",
        "http://www.shop.test:81/base/?a=b",
        "https://[::1]/",
    ],
)
def test_redirects(redirect: str) -> None:
    assert redirect_fault(redirect, "shop.test") == ""


@pytest.mark.parametrize(
    "redirect",
    [
        "", "/x", "//other.test", "x/y", "other.test/path", "user@other.test", "ftp://other.test", "https://", "https:///x",
        "javascript:alert(1)", "https://other.test/a b", "https://other.test/\r\nX: y", "other.test\0", "https://öther.test",
        "shop.test", "shop.test.", "SHOP.test", "shop.test:8080", "https://shop.test/welcome", "http://[fe80::x]/",
        "https://other.test:port/", "https://" + "x" * 3000 + ".test",
    ],
)  # fmt: skip
def test_bad_redirects(redirect: str) -> None:
    assert redirect_fault(redirect, "shop.test") != ""


@pytest.mark.parametrize(
    ("names", "backend_id", "words"),
    [
        ("{id}.containers.internal", "b7c1", ""),
        (None, "b7c1", "backends.tls.ca"),
        ("{id}.containers.internal", "b 7", "part of a hostname"),
    ],
)
def test_backends_over_tls(names: str | None, backend_id: str, words: str) -> None:
    there = Backend(backend_id, "10.0.0.9", 443, tls=True)
    response, remarks = checked(a_response(B1, there), "shop.test", BackendPolicy(tls_names=names))
    assert [remark.code for remark in remarks] == ["core_api_backend_needs_tls"] * bool(words)
    assert all(words in remark.words for remark in remarks)
    assert response.backends == ((B1,) if words else (B1, there))


def test_a_route_whose_backends_all_need_tls_has_the_code_for_it() -> None:
    there = Backend("b7c1", "10.0.0.9", 443, tls=True)
    with pytest.raises(InvalidResponse, match=r"neither backends\.tls\.ca nor") as raised:
        checked(a_response(there), "shop.test", BackendPolicy())
    assert raised.value.code == "core_api_backend_needs_tls"
    with pytest.raises(InvalidResponse, match="no backend can be used") as raised:
        checked(a_response(there, Backend("b", "10.0.0.1", 0)), "shop.test", BackendPolicy())
    assert raised.value.code == "core_api_bad_response"
