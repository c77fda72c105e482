"""The way of one request there and back: what is added, what is taken away, what stays byte for byte."""

import re
from email.utils import parsedate_to_datetime
from time import time

import pytest

from tests.support.scene import request


async def test_first_request(scene):
    live = scene.backend(headers=[("Content-Type", "text/plain")])
    scene.route("shop.test", [live])
    reply = await scene.get("shop.test", "/cart?x=1")
    assert (reply.status, reply.reason, reply.body) == (200, b"Because", b"hello")
    got = live.last
    assert got.line == b"GET /cart?x=1 HTTP/1.1"
    assert got["host"] == b"shop.test"
    assert got["x-forwarded-for"] == b"127.0.0.1"
    assert got["x-forwarded-proto"] == b"http"
    assert got["x-forwarded-host"] == b"shop.test"
    assert got["x-real-ip"] == b"127.0.0.1"
    assert got["x-forwarded-port"] == str(scene.worker.ports[0]).encode()
    assert got["via"] == b"1.1 styx"
    assert got["x-styx-backend"] == live.name.encode()
    assert got["x-styx-attempt"] == b"1"
    assert reply["x-request-id"] == got["x-request-id"].decode()
    assert reply["x-styx-edge"] == "edge-1"
    assert reply["x-styx-backend"] == live.name
    assert reply["content-type"] == "text/plain"
    assert reply.error is None
    assert scene.attempts == ["ok"]
    assert scene.letters == "--"
    assert scene.outcome.id == reply["x-request-id"]
    assert (scene.outcome.site, scene.outcome.environment) == ("shop.test", "live")


async def test_every_request_has_an_id_of_its_own(scene):
    scene.route("shop.test", [scene.backend()])
    assert len({(await scene.get("shop.test"))["x-request-id"] for _ in range(5)}) == 5


SPOOFS = [
    ("X-Styx-Backend", "evil"),
    ("X-Styx-Attempt", "99"),
    ("X-Styx-Anything", "evil"),
    ("x_styx_backend", "evil"),
    ("X-Forwarded-For", "6.6.6.6"),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "evil.test"),
    ("X-Forwarded-Port", "0"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X_Forwarded_For", "6.6.6.6"),
    ("X_Forwarded-Proto", "evil"),
    ("X_REQUEST_ID", "evil"),
    ("X-Request-Id", "evil"),
    ("Forwarded", "for=6.6.6.6"),
    ("Proxy", "evil"),
    ("X-Real-IP", "6.6.6.6"),
    ("X_Real_IP", "6.6.6.6"),
    ("True-Client-IP", "6.6.6.6"),
    ("Client-IP", "6.6.6.6"),
    ("client_ip", "6.6.6.6"),
    ("Front-End-Https", "on"),
    ("X-Original-URL", "/admin"),
    ("X_Original_URL", "/admin"),
    ("X-Rewrite-URL", "/admin"),
    ("X-Url-Scheme", "https"),
]


@pytest.mark.parametrize(("name", "value"), SPOOFS)
async def test_what_a_client_says_about_itself_is_not_believed(scene, name, value):
    live = scene.backend()
    scene.route("shop.test", [live])
    await scene.get("shop.test", headers=[(name, value)])
    assert value.encode() not in [v for _, v in live.last.fields]
    assert not [n for n, _ in live.last.fields if b"_" in n]


async def test_a_trusted_proxy_is_believed(scene):
    scene.settings(forwarding={"trusted": ("127.0.0.0/8",)})
    live = scene.backend()
    scene.route("shop.test", [live])
    said = [("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-Proto", "https"), ("X-Request-Id", "abc")]
    said.append(("Client-IP", "7.7.7.7"))
    reply = await scene.get("shop.test", headers=said)
    assert live.last["x-forwarded-for"] == b"6.6.6.6, 127.0.0.1"
    assert live.last["x-forwarded-proto"] == b"https"
    assert live.last["x-forwarded-port"] == b"443"
    assert live.last["x-real-ip"] == b"6.6.6.6"
    assert live.last["client-ip"] == b"7.7.7.7"
    assert live.last["x-request-id"] == b"abc"
    assert reply["x-request-id"] == "abc"


TARGETS = [
    "/a%2Fb",
    "//a//b",
    "/a;b=c",
    "/it's",
    "/ä/ü",
    "/../a/./b",
    "/a?b=c?d&e=%zz",
    "/?",
    "/%00%ff",
    '/a"b<c>|d',
    "/a[1]{2}^`~",
    "/a\\b",
    "/" + "x" * 8000,
]


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t[:12])
async def test_the_target_goes_on_byte_for_byte(scene, target):
    live = scene.backend()
    scene.route("shop.test", [live])
    assert (await scene.get("shop.test", target)).status == 200
    assert live.last.target == target.encode()


@pytest.mark.parametrize(
    "method", ["GET", "OPTIONS", "DELETE", "PUT", "PATCH", "PROPFIND", "REPORT", "PURGE", "QUERY", "get", "X-OWN"]
)
async def test_the_method_goes_on(scene, method):
    live = scene.backend()
    scene.route("shop.test", [live])
    assert (await scene.get("shop.test", method=method)).status == 200
    assert live.last.method == method.encode()


async def test_options_of_the_whole_server(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    assert (await scene.get("shop.test", "*", method="OPTIONS")).status == 200
    assert live.last.line == b"OPTIONS * HTTP/1.1"


HOP_BY_HOP = [
    ("Connection", "keep-alive, X-Secret, close"),
    ("X-Secret", "1"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Connection", "keep-alive"),
    ("TE", "gzip"),
    ("Upgrade", "h2c"),
    ("Proxy-Authorization", "Basic eA=="),
]


async def test_fields_of_one_hop_stay_on_it(scene):
    live = scene.backend(
        headers=[
            ("Connection", "X-Hop, close"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Upgrade", "h2c"),
            ("X-End", "2"),
        ]
    )
    scene.route("shop.test", [live])
    reply = await scene.get("shop.test", headers=[*HOP_BY_HOP, ("X-End-To-End", "3")])
    for name, _ in HOP_BY_HOP:
        assert name not in live.last, name
    assert live.last["x-end-to-end"] == b"3"
    for name in ("x-hop", "keep-alive", "upgrade"):
        assert name not in reply
    assert reply["x-end"] == "2"


async def test_an_offer_to_upgrade_is_not_taken(scene):
    """Not by us, and it must not reach the other side; the body that follows is a body."""
    offer = [("Connection", "Upgrade"), ("Upgrade", "h2,h2c")]
    live = scene.backend(headers=offer)
    scene.route("shop.test", [live])
    for _ in range(2):
        reply = await scene.post("shop.test", headers=offer)
        assert (reply.status, reply.body) == (200, b"hello")
        assert "upgrade" not in reply
        assert "upgrade" not in live.last
        assert live.last.body == b"a=1"
    assert live.connections == 1


async def test_the_names_of_framing_cannot_be_nominated(scene):
    """Connection must not take Host or the framing away (RFC 9110, section 7.6.1)."""
    live = scene.backend()
    scene.route("shop.test", [live])
    await scene.post("shop.test", headers=[("Connection", "Host, Content-Length, X-Forwarded-For, Via")])
    assert live.last["host"] == b"shop.test"
    assert live.last.body == b"a=1"
    assert live.last["x-forwarded-for"] == b"127.0.0.1"


async def test_repeated_fields_stay_repeated_and_in_order(scene):
    live = scene.backend(headers=[("Set-Cookie", "a=1"), ("X-Between", "x"), ("Set-Cookie", "b=2; Path=/")])
    scene.route("shop.test", [live])
    reply = await scene.get("shop.test", headers=[("Cookie", "a=1"), ("X-Two", "1"), ("x-two", "2")])
    assert reply.values("set-cookie") == [b"a=1", b"b=2; Path=/"]
    assert live.last.values("x-two") == [b"1", b"2"]


async def test_one_field_of_each_kind_that_the_edge_makes(scene):
    """What a backend says under our names does not stand beside what we say."""
    mine = [("X-Request-Id", "x"), ("X-Styx-Edge", "x"), ("X-Styx-Backend", "x"), ("X-Styx-Error", "x")]
    scene.route("shop.test", [scene.backend(headers=mine)])
    reply = await scene.get("shop.test")
    assert "x" not in (reply["x-request-id"], reply["x-styx-edge"], reply["x-styx-backend"])
    assert reply.error is None


async def test_a_response_without_a_date_gets_one(scene):
    """RFC 9110, section 6.6.1. A remembered head (the third one is) gets that of its own moment."""
    scene.route("shop.test", [scene.backend(headers=[("X-Date", "x")])])
    for _ in range(4):
        before = int(time())
        reply = await scene.get("shop.test")
        assert before <= parsedate_to_datetime(reply["date"]).timestamp() <= time()
        assert reply["x-date"] == "x"


@pytest.mark.parametrize("name", ["Date", "date"])
async def test_a_response_with_a_date_keeps_it(scene, name):
    scene.route("shop.test", [scene.backend(headers=[(name, "Sun, 06 Nov 1994 08:49:37 GMT")])])
    for _ in range(4):
        assert (await scene.get("shop.test"))["date"] == "Sun, 06 Nov 1994 08:49:37 GMT"


async def test_via_is_appended(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    await scene.get("shop.test", headers=[("Via", "1.0 fred")])
    assert live.last["via"] == b"1.0 fred, 1.1 styx"


async def test_raw_bytes_in_field_values_go_on(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    await scene.get("shop.test", headers=[("X-Name", "Zoë 🙂")])
    assert live.last["x-name"] == "Zoë 🙂".encode()


async def test_blanks_around_values_are_no_part_of_them(scene):
    response = b"HTTP/1.1 200 OK\r\nContent-Length:  2 \r\nConnection: keep-alive \t\r\nX-A: b \r\n\r\nok"
    live = scene.raw(response)
    scene.route("shop.test", [live])
    head = b"POST / HTTP/1.1\r\nHost: shop.test \r\nContent-Length: 3\t\r\nX-A:\t1 \t\r\n\r\nabc"
    for _ in range(2):
        reply = await scene.ask(head)
        assert (reply.status, reply.body, reply["x-a"]) == (200, b"ok", "b")
    assert live.last["host"] == b"shop.test"
    assert live.last.body == b"abc"
    assert live.last["x-a"].strip() == b"1"
    assert live.connections == 1


async def test_absolute_target_of_the_same_host(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    reply = await scene.ask(request("shop.test", "http://shop.test/a"))
    assert reply.status == 200
    assert live.last["host"] == b"shop.test"


async def test_local_replies_say_who_made_them(scene):
    scene.route("shop.test", [scene.dead()])
    reply = await scene.get("shop.test", headers=[("Accept", "application/json")])
    assert (reply.status, reply.error) == (502, "connect_failed")
    assert reply["cache-control"] == "no-store"
    assert reply["x-styx-edge"] == "edge-1"
    assert reply["content-type"] == "application/problem+json"
    assert re.fullmatch(r"[0-9a-f]{12}-[0-9a-f]+", reply["x-request-id"])
    assert "x-styx-backend" not in reply
