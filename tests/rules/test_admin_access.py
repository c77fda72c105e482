"""Access control of the admin server."""

import pytest
from multidict import CIMultiDict

from edge.rules.admin_access import Caller, TokenCheck, came_through_proxy, denial, is_local_host, may_act
from edge.rules.settings.values import Address

LOOPBACK, EVERYWHERE, UNIX = Address("127.0.0.1", 9901), Address("", 9901), Address(path="/run/admin.sock")
ABSENT, RIGHT, WRONG = TokenCheck
TCP = Caller(unix=False, trusted=False, token=ABSENT)
OPERATOR = Caller(unix=True, trusted=True, token=ABSENT)
SOMEBODY = Caller(unix=True, trusted=False, token=ABSENT)


def status(method="GET", path="/v1/drains", caller=TCP, address=LOOPBACK, **headers):
    """The status of the denial; 0 = the request is served."""
    named = CIMultiDict({"Host": "localhost"} | {name.replace("_", "-"): value for name, value in headers.items()})
    refused = denial(method, path, named, caller, address)
    return refused.status if refused is not None else 0


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH", "OPTIONS"])
@pytest.mark.parametrize(
    ("address", "caller", "reading", "acting"),
    [
        (LOOPBACK, TCP, 0, 403),
        (LOOPBACK, TCP._replace(token=RIGHT), 0, 0),
        (LOOPBACK, TCP._replace(token=WRONG), 401, 401),
        (LOOPBACK, OPERATOR, 0, 0),
        (LOOPBACK, OPERATOR._replace(token=WRONG), 401, 401),
        (LOOPBACK, SOMEBODY, 0, 403),
        (LOOPBACK, SOMEBODY._replace(token=RIGHT), 0, 0),
        (EVERYWHERE, TCP, 401, 401),
        (EVERYWHERE, TCP._replace(token=RIGHT), 0, 0),
        (EVERYWHERE, TCP._replace(token=WRONG), 401, 401),
        (EVERYWHERE, OPERATOR, 0, 0),
        (EVERYWHERE, SOMEBODY, 0, 403),
        (UNIX, OPERATOR, 0, 0),
        (UNIX, SOMEBODY, 0, 403),
    ],
)
def test_the_right_to_read_and_to_act(address, caller, reading, acting, method):
    assert status("GET", caller=caller, address=address) == reading
    assert status("HEAD", caller=caller, address=address) == reading
    assert status(method, caller=caller, address=address) == acting
    assert status("GET", "/readyz", caller=caller, address=address) == 0
    assert status("GET", "/livez", caller=caller, address=address, Via="1.1 lb", Host="lb.example") == 0


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("caller", [TCP, TCP._replace(token=RIGHT), OPERATOR])
@pytest.mark.parametrize(
    "name", ["Via", "Forwarded", "X-Forwarded-For", "x-forwarded-proto", "X-FORWARDED-HOST", "X-Forwarded-Server"]
)
def test_requests_through_a_proxy(name, caller, method):
    assert status(method, caller=caller, **{name: "x"}) == 403


def test_requests_that_did_not_come_through_a_proxy():
    assert not came_through_proxy(["Host", "Vial", "Forwarded-For", "X-Forward", "X-Forwarded"])


@pytest.mark.parametrize(
    ("headers", "acting"),
    [
        ({"Origin": "https://evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 403),
        ({"Sec-Fetch-Site": "none"}, 0),
    ],
)
def test_web_pages_do_not_act(headers, acting):
    assert status("POST", caller=OPERATOR, **headers) == acting
    assert status("GET", caller=TCP, **headers) == 0
    assert status("POST", caller=TCP._replace(token=RIGHT), **headers) == 0


def test_dns_rebinding():
    assert status(caller=TCP, Host="evil.test:9901") == 421
    assert status("POST", caller=TCP, Host="evil.test:9901") == 421
    assert status(caller=TCP._replace(token=RIGHT), Host="edge7.example.org") == 0
    assert status("POST", caller=OPERATOR, Host="anything") == 0


@pytest.mark.parametrize(
    ("header", "local"),
    [
        ("localhost", True),
        ("LOCALHOST:9901", True),
        ("localhost.:9901", True),
        ("127.0.0.1:9901", True),
        ("[::1]:9901", True),
        ("127.0.0.9", True),
        ("127.0.0.8", False),
        ("", False),
        ("localhost.evil.test", False),
        ("127.0.0.1.evil.test:9901", False),
        ("[::2]", False),
        ("[evil", False),
    ],
)
def test_names_of_this_machine(header, local):
    assert is_local_host(header, "127.0.0.9") is local


@pytest.mark.parametrize("path", ["/", "/status/page.js"])
def test_the_files_of_the_page_need_no_right(path):
    assert status(path=path, address=EVERYWHERE) == 0
    assert status("POST", path, address=EVERYWHERE) == 401
    assert status(path=path, address=EVERYWHERE, Via="1.1 x") == 403
    assert status(path=path, Host="evil.test") == 421
    assert status(path="/v1/status", address=EVERYWHERE) == 401


SAME = {"Host": "localhost:9901", "Origin": "http://localhost:9901", "Sec_Fetch_Site": "same-origin"}


@pytest.mark.parametrize(
    ("changes", "acting"),
    [
        ({}, 0),
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "http://localhost:8000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Host": "evil.test", "Origin": "http://evil.test"}, 403),
    ],
)
def test_the_page_may_act_over_the_socket_and_no_other_page(changes, acting):
    """As through `ssh -L 9901:/run/styx/admin.sock`."""
    assert status("POST", caller=OPERATOR, address=UNIX, **{**SAME, **changes}) == acting
    assert status("POST", caller=SOMEBODY, address=UNIX, **{**SAME, **changes}) == 403
    assert status("POST", caller=TCP, **{**SAME, **changes}) in (403, 421)


@pytest.mark.parametrize(
    ("caller", "host", "expected"),
    [
        (TCP, "localhost", False),
        (TCP._replace(token=RIGHT), "localhost", True),
        (TCP._replace(token=RIGHT), "edge.test", True),
        (TCP._replace(token=WRONG), "localhost", False),
        (OPERATOR, "localhost:9901", True),
        (OPERATOR, "evil.test", False),
        (SOMEBODY, "localhost", False),
    ],
)
def test_what_the_page_may_offer(caller, host, expected):
    assert may_act(CIMultiDict({"Host": host}), caller, LOOPBACK) is expected
