"""Header fields that are forwarded or dropped, and the fields that styx adds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.rules.http.field_filter import PASS, request_filter
from edge.rules.http.framing import MAX_MEMBERS, FieldValues, Framing
from edge.rules.http.hop_by_hop import (
    ClientInfo,
    ClientInfos,
    _known_members,
    framing_line,
    keeps_alive,
    later_lines,
    status_line,
    tokens,
)
from edge.rules.http.messages import Fields
from edge.rules.tls.client_certificate_fields import CERTIFICATE_FIELDS
from edge.rules.traffic.listener_counts import ListenerCounts
from tests.support.forwarded_fields import parsed, passed

quickly = settings(max_examples=25, deadline=None)

CLIENT = ClientInfo("192.0.2.1", port=8080, trusted=False, via=b"styx")
PROXY = ClientInfo("10.0.0.1", port=8080, trusted=True, via=b"styx")
SPOOFED = {
    b"x-forwarded-for": [b"6.6.6.6"],
    b"x-forwarded-proto": [b"https"],
    b"x-forwarded-host": [b"evil.test"],
    b"x-forwarded-port": [b"666"],
    b"x-forwarded-prefix": [b"/evil"],
    b"forwarded": [b"for=6.6.6.6"],
    b"x-real-ip": [b"6.6.6.6"],
    b"true-client-ip": [b"6.6.6.6"],
    b"client-ip": [b"6.6.6.6"],
    b"front-end-https": [b"on"],
    b"x-original-url": [b"/admin"],
    b"x-rewrite-url": [b"/admin"],
    b"x-url-scheme": [b"https"],
    b"x-request-id": [b"evil"],
}


def lines_of(client: ClientInfo, found: FieldValues, minor: int = 1) -> bytes:
    """The forwarding lines for a request to shop.test with these fields."""
    lines, forwarded_host = client.lines(found, b"shop.test", minor)
    return lines + b"X-Forwarded-Host: %b\r\n" % forwarded_host


def forwarded_by(client: ClientInfo, found: FieldValues) -> dict[bytes, bytes]:
    """The forwarding fields for a request to shop.test with these fields."""
    fields = parsed(lines_of(client, found))
    assert len(fields) == len(dict(fields))
    return dict(fields)


def test_a_client_cannot_remove_what_styx_sets() -> None:
    nominated = b"x-forwarded-for, host, content-length, via, x-request-id, x-styx-backend"
    fields = [(b"Host", b"shop.test"), (b"Content-Length", b"3"), (b"Connection", nominated)]
    _, found, _ = request_filter().sift(fields)
    assert found[b"host"] == [b"shop.test"]
    assert found[b"content-length"] == [b"3"]
    forwarded = dict(parsed(lines_of(CLIENT, found)))
    assert forwarded[b"X-Forwarded-For"] == b"192.0.2.1"
    assert forwarded[b"Via"] == b"1.1 styx"


@pytest.mark.parametrize(
    ("connection", "minor", "expected"),
    [
        (None, 1, True),
        (None, 0, False),
        ([b"close"], 1, False),
        ([b"Close"], 1, False),
        ([b"keep-alive"], 0, True),
        ([b"Keep-Alive"], 0, True),
        ([b"keep-alive, close"], 1, False),
        ([b"keep-alive", b"close"], 0, False),
        ([b"x-hop"], 1, True),
        ([b"x-hop"], 0, False),
        ([b"closed"], 1, True),
    ],
)
def test_keeps_alive(connection: list[bytes] | None, minor: int, expected: bool) -> None:
    found = {} if connection is None else {b"connection": connection}
    assert keeps_alive(found, minor) is expected


def test_tokens_of_list_fields() -> None:
    assert tokens([b"Close,, X-A ", b"\tb"]) == {b"close", b"x-a", b"b"}
    assert tokens([b"Close"]) == {b"close"}
    assert tokens([b" , "]) == tokens([]) == set()


# The memo


def test_only_short_lists_of_tokens_are_cached() -> None:
    before = _known_members.cache_info().currsize
    long = b", ".join(b"token-%d" % n for n in range(MAX_MEMBERS))
    assert b"token-%d" % (MAX_MEMBERS - 1) in tokens([long])
    assert tokens([b"a, B", b"c"]) == {b"a", b"b", b"c"}
    assert _known_members.cache_info().currsize == before


# Forwarding fields


def test_forwarding_fields_of_an_untrusted_client_are_replaced() -> None:
    honest = {
        b"Via": b"1.1 styx",
        b"X-Forwarded-For": b"192.0.2.1",
        b"X-Forwarded-Proto": b"http",
        b"X-Forwarded-Host": b"shop.test",
        b"X-Forwarded-Port": b"8080",
        b"X-Real-IP": b"192.0.2.1",
    }
    assert forwarded_by(CLIENT, {}) == honest
    assert forwarded_by(CLIENT, SPOOFED) == honest
    assert forwarded_by(CLIENT, SPOOFED | {b"via": [b"1.0 a"]}) == honest | {b"Via": b"1.0 a, 1.1 styx"}
    assert CLIENT.request_id(SPOOFED) is None
    names = [*SPOOFED, b"X_Forwarded_For", b"X-Forwarded-Server", b"x-forwarded_ssl"]
    assert passed([(name, b"evil") for name in names]) == []


def test_a_trusted_proxy_is_believed_and_added_to_the_chain() -> None:
    found = {
        b"x-forwarded-for": [b"203.0.113.9", b"10.0.0.7"],
        b"x-forwarded-proto": [b"http", b"https"],
        b"x-forwarded-port": [b"443"],
        b"forwarded": [b"for=203.0.113.9"],
        b"x-forwarded-host": [b"www.shop.test"],
        b"x-request-id": [b"abc"],
        b"via": [b"1.1 cdn"],
    }
    assert forwarded_by(PROXY, found) == {
        b"Via": b"1.1 cdn, 1.1 styx",
        b"Forwarded": b"for=203.0.113.9",
        b"X-Forwarded-For": b"203.0.113.9, 10.0.0.7, 10.0.0.1",
        b"X-Forwarded-Proto": b"https",
        b"X-Forwarded-Host": b"www.shop.test",
        b"X-Forwarded-Port": b"443",
        b"X-Real-IP": b"10.0.0.7",
    }
    assert PROXY.request_id(found) == b"abc"


def test_a_trusted_proxy_without_forwarding_fields_is_a_client() -> None:
    assert forwarded_by(PROXY, {}) == forwarded_by(CLIENT, {}) | {
        b"X-Forwarded-For": b"10.0.0.1",
        b"X-Real-IP": b"10.0.0.1",
    }
    assert PROXY.request_id({}) is None


@pytest.mark.parametrize(
    ("found", "address"),
    [
        ({}, b"10.0.0.1"),
        ({b"x-forwarded-for": [b"6.6.6.6, 203.0.113.9"]}, b"203.0.113.9"),
        ({b"x-forwarded-for": [b"6.6.6.6", b"203.0.113.9 "]}, b"203.0.113.9"),
        ({b"x-forwarded-for": [b"203.0.113.9"], b"x-real-ip": [b"6.6.6.6"]}, b"203.0.113.9"),
        ({b"x-real-ip": [b"203.0.113.9"]}, b"203.0.113.9"),
        ({b"x-forwarded-for": [b""], b"x-real-ip": [b""]}, b"10.0.0.1"),
        ({b"x-forwarded-for": [b"x" * 1000]}, b"x" * 64),
    ],
)
def test_the_real_address_is_the_last_one_that_a_trusted_proxy_names(found: FieldValues, address: bytes) -> None:
    assert forwarded_by(PROXY, found)[b"X-Real-IP"] == address


def test_other_forwarding_fields_of_a_trusted_proxy_are_forwarded() -> None:
    found: FieldValues = {
        b"true-client-ip": [b"203.0.113.9"],
        b"front-end-https": [b"on"],
        b"x-original-url": [b"/a", b"/b"],
    }
    lines, _ = PROXY.lines(found, b"shop.test")
    forwarded = [field for field in parsed(lines) if field[0].lower() in found]
    assert forwarded == [
        (b"True-Client-IP", b"203.0.113.9"),
        (b"Front-End-Https", b"on"),
        (b"X-Original-URL", b"/a"),
        (b"X-Original-URL", b"/b"),
    ]


ODD_NAMES = (b"X-Client-Cert-Other", b"X_CLIENT_CERT_VERIFY", b"Client_Cert")
SHOWN = b"X-Client-Cert-Verify: SUCCESS\r\nX-Client-Cert-Subject: CN=ann\r\n"


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("port", [443, 0])
def test_the_certificate_of_a_client_is_told_and_nothing_else_about_one(trusted: bool, port: int) -> None:
    client = ClientInfo("203.0.113.9", port=port, trusted=trusted, via=b"styx", scheme=b"https")
    client.identify(SHOWN, "CN=ann")
    found: FieldValues = {name.lower(): [b"forged"] for name in CERTIFICATE_FIELDS}
    for info in (client, client.over_h2(), client.without_trust()):
        for request in ({}, found):
            lines, _ = info.lines(request, b"shop.test")
            told = [field for field in parsed(lines) if b"cert" in field[0].lower()]
            assert told == [(b"X-Client-Cert-Verify", b"SUCCESS"), (b"X-Client-Cert-Subject", b"CN=ann")]
        assert info.certificate_subject == "CN=ann"


def test_fields_about_certificates_are_believed_of_trusted_proxies_only() -> None:
    found: FieldValues = {name.lower(): [b"told"] for name in CERTIFICATE_FIELDS}
    for client, told in ((CLIENT, []), (PROXY, [(name, b"told") for name in CERTIFICATE_FIELDS])):
        lines, _ = client.lines(found, b"shop.test")
        assert [field for field in parsed(lines) if b"Cert" in field[0]] == told


@pytest.mark.parametrize(
    "name", [*CERTIFICATE_FIELDS, b"X-Client-Cert-Other", b"X_CLIENT_CERT_VERIFY", b"client_cert"]
)
def test_fields_about_certificates_never_pass_as_they_come(name: bytes) -> None:
    lines, _, _ = request_filter().sift([(b"Host", b"shop.test"), (name, b"forged"), (b"Accept", b"*/*")])
    assert b"".join(lines) == b"Accept: */*\r\n"


PORTS: list[tuple[int, dict[bytes, bytes], bytes, bytes]] = [
    (8080, {}, b"shop.test", b"8080"),
    (8080, {}, b"shop.test:9", b"8080"),
    (8080, {b"x-forwarded-proto": b"https"}, b"shop.test", b"443"),
    (8080, {b"x-forwarded-proto": b"HTTPS, http"}, b"shop.test", b"443"),
    (8080, {b"x-forwarded-proto": b"https"}, b"shop.test:8443", b"8443"),
    (8080, {b"x-forwarded-proto": b"https"}, b"edge.test:8080", b"443"),
    (8080, {b"x-forwarded-proto": b"http"}, b"shop.test", b"80"),
    (8080, {b"x-forwarded-proto": b"http"}, b"shop.test:8080", b"8080"),
    (8080, {b"x-forwarded-host": b"www.shop.test"}, b"edge.test:8080", b"80"),
    (8080, {b"x-forwarded-host": b"www.shop.test:81"}, b"edge.test:8080", b"81"),
    (8080, {b"x-forwarded-host": b"[::1]", b"x-forwarded-proto": b"https"}, b"x", b"443"),
    (8080, {b"x-forwarded-host": b"[::1]:444", b"x-forwarded-proto": b"https"}, b"x", b"444"),
    (8080, {b"x-forwarded-proto": b"https", b"x-forwarded-port": b"444"}, b"shop.test", b"444"),
    (8080, {b"x-forwarded-proto": b"https", b"x-forwarded-port": b"0"}, b"shop.test", b"443"),
    (8080, {b"x-forwarded-port": b"x"}, b"shop.test", b"8080"),
    (8080, {b"x-forwarded-port": b"65536"}, b"shop.test", b"8080"),
    (0, {}, b"shop.test", b"80"),
    (0, {}, b"shop.test:81", b"81"),
    (0, {}, b"shop.test:0", b"80"),
    (0, {b"x-forwarded-proto": b"https"}, b"shop.test", b"443"),
]
"The listener's port, fields of a trusted proxy, Host, and X-Forwarded-Port for the backend."


@pytest.mark.parametrize(("port", "found", "host", "expected"), PORTS)
def test_the_port_fits_the_scheme_and_the_host(
    port: int, found: dict[bytes, bytes], host: bytes, expected: bytes
) -> None:
    client = ClientInfo("10.0.0.1", port=port, trusted=True, via=b"styx")
    lines, _ = client.lines({name: [value] for name, value in found.items()}, host)
    assert dict(parsed(lines))[b"X-Forwarded-Port"] == expected


def test_an_unknown_client_on_a_unix_socket() -> None:
    client = ClientInfo("127.0.0.1", port=0, trusted=True, via=b"styx").without_trust()
    lines, _ = client.lines({b"x-forwarded-proto": [b"https"], b"x-forwarded-port": [b"7"]}, b"shop.test:81")
    assert dict(parsed(lines))[b"X-Forwarded-Port"] == b"81"


def test_the_id_from_a_trusted_proxy_is_bounded() -> None:
    assert PROXY.request_id({b"x-request-id": [b"i" * 1000]}) == b"i" * 200


# Fields that styx adds


@pytest.mark.parametrize("client", [CLIENT, PROXY], ids=["client", "proxy"])
def test_via_is_appended_for_all_clients(client: ClientInfo) -> None:
    assert forwarded_by(client, {b"via": [b"1.0 a, 1.1 b", b"2 c"]})[b"Via"] == b"1.0 a, 1.1 b, 2 c, 1.1 styx"


@pytest.mark.parametrize(
    ("framing", "line"),
    [
        (Framing.NONE, b""),
        (Framing.CLOSE, b""),
        (Framing.LENGTH, b"Content-Length: 42\r\n"),
        (Framing.CHUNKED, b"Transfer-Encoding: chunked\r\n"),
    ],
)
def test_framing_line(framing: Framing, line: bytes) -> None:
    assert framing_line(framing, 42) == line


def test_attempts_are_numbered_at_the_end_of_the_head() -> None:
    assert later_lines(b"X-Styx-Backend: b1\r\n", 2) == b"X-Styx-Backend: b1\r\nX-Styx-Attempt: 2\r\n\r\n"


@pytest.mark.parametrize("reason", [b"OK", b"Fine", b""])
def test_status_line(reason: bytes) -> None:
    assert status_line(200, reason) == b"HTTP/1.1 200 " + reason + b"\r\n"


# What a parser lets through: a token, and text without line ends or NUL.
names = st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,12}", fullmatch=True) | st.sampled_from(
    [b"Host", b"Connection", b"X-Forwarded-For", b"X_Request_Id", b"Via", b"Proxy", b"Cookie", b"X-Styx-Backend"]
)
values = st.from_regex(rb"[\x21-\x7e\x80-\xff]([\t \x21-\x7e\x80-\xff]{0,20}[\x21-\x7e\x80-\xff])?", fullmatch=True)
heads = st.lists(st.tuples(names, values), max_size=6)


@quickly
@given(fields=heads)
def test_forwarded_lines_parse_to_the_fields_that_pass(fields: Fields) -> None:
    field_filter = request_filter()
    lines, found, _ = field_filter.sift(fields)
    nominated = tokens(found.get(b"connection", []))
    wire = b"".join(lines)
    assert wire.count(b"\r\n") == wire.count(b"\r") == wire.count(b"\n") == len(lines) // 4
    read_again = [tuple(line.split(b": ", 1)) for line in wire.split(b"\r\n")[:-1]]
    assert read_again == [
        (name, value)
        for name, value in fields
        if field_filter.action_for(name) == PASS and name.lower() not in nominated
    ]
    own = lines_of(CLIENT, found) + lines_of(PROXY, found)
    assert all(b": " in line for line in own.split(b"\r\n")[:-1])
    assert own.count(b"\n") == own.count(b"\r\n") == own.count(b"\r")


def test_via_names_the_version_in_which_the_request_came() -> None:
    """RFC 9110, section 7.6.3: the protocol of the message as it was received."""
    assert parsed(lines_of(CLIENT, {b"via": [b"1.1 a"]}, 0))[0] == (b"Via", b"1.1 a, 1.0 styx")
    assert parsed(lines_of(CLIENT, {}, 0))[0] == (b"Via", b"1.0 styx")
    assert parsed(lines_of(CLIENT, {}))[0] == (b"Via", b"1.1 styx")


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(("own_port", "port"), [(8080, 8080), (8080, 443), (0, 0), (0, 443)])
@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_clients_of_a_listener_are_what_each_would_be_by_itself(
    trusted: bool, own_port: int, port: int, address: str
) -> None:
    counts = ListenerCounts("127.0.0.1:80")
    infos = ClientInfos(own_port, via=b"styx", scheme=b"https", gate=None, counts=counts)
    info = infos.of(address, 5000, trusted, port)
    alone = ClientInfo(address, port=port, trusted=trusted, via=b"styx", scheme=b"https")
    assert (info.client_port, info.listener) == (5000, counts)
    assert (info.is_usual, info.usual_lines) == (alone.is_usual, alone.usual_lines)
    assert info.lines({}, b"shop.test") == alone.lines({}, b"shop.test")
    assert info.lines(SPOOFED, b"shop.test") == alone.lines(SPOOFED, b"shop.test")
