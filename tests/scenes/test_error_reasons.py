"""Every reason for which the edge answers by itself: its status, its headers, and what the access log says."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import pytest

from edge.rules.http.local_reply import RETRY_AFTER
from edge.rules.outcomes import VERDICTS
from tests.support.scene import MIB, SHORT, Reply, Scene, Wire, request

Play = Callable[[Scene], Awaitable[Reply]]


class Case(NamedTuple):
    """What is played, and what must come of it."""

    status: int
    reason: str
    letters: str
    "Blame and phase in the access log."
    play: Play


async def sent(scene: Scene, data: bytes) -> Reply:
    scene.route("shop.test", [scene.backend()])
    return await scene.ask(data)


def sending(data: bytes, **settings: dict[str, object]) -> Play:
    async def play(scene: Scene) -> Reply:
        scene.settings(**settings)
        return await sent(scene, data)

    return play


def of_route(**members: object) -> Play:
    async def play(scene: Scene) -> Reply:
        scene.route("shop.test", [], **members)
        return await scene.get("shop.test")

    return play


def of_backend(name: str, *details: object, state: str = "running", **settings: dict[str, object]) -> Play:
    async def play(scene: Scene) -> Reply:
        scene.settings(**settings)
        backend = getattr(scene, name)(*details)
        backend.state = state
        scene.route("shop.test", [backend])
        return await scene.get("shop.test")

    return play


async def unknown_host(scene: Scene) -> Reply:
    return await scene.get("nobody.test")


async def unknown_host_limit(scene: Scene) -> Reply:
    scene.settings(limits={"unknown_hosts_per_client": 0.1})
    for name in ("one.test", "two.test"):
        assert (await scene.get(name)).status == 404
    reply = await scene.get("three.test")
    assert "three.test" not in scene.core.lookups
    return reply


async def drained(scene: Scene) -> Reply:
    scene.route("shop.test", [scene.backend()])
    await scene.edge()
    scene.worker.set_drain("environment", "shop.test/live", 60.0)
    return await scene.get("shop.test")


async def lookup_failed(scene: Scene) -> Reply:
    scene.core.trouble = 500
    return await scene.get("shop.test")


async def slow_body(scene: Scene) -> Reply:
    scene.settings(timeouts={"body": SHORT})
    return await sent(scene, request("shop.test", method="POST", body=b"x" * 90_000)[:-1])


async def growing_body(scene: Scene) -> Reply:
    scene.settings(limits={"body": 4})
    live = scene.backend()
    scene.route("shop.test", [live])
    client = await scene.client()
    head = request(
        "shop.test", method="POST", headers=[("Transfer-Encoding", "chunked"), ("Expect", "100-continue")]
    )
    await client.write(head + b"3\r\nabc\r\n")
    await live.heads.acquire()
    await client.write(b"3\r\ndef\r\n")
    return await client.read_reply()


async def stalled_upload(scene: Scene) -> Reply:
    scene.settings(timeouts={"between_bytes": SHORT})

    async def script(wire: Wire, got: object) -> None:
        wire.transport.pause_reading()
        await wire.gone.wait()

    scene.route("shop.test", [scene.scripted(script)])
    client = await scene.client()
    writing = asyncio.ensure_future(
        client.write(
            request("shop.test", method="POST", headers=[("Expect", "100-continue")], body=b"x" * 64 * MIB)
        )
    )
    try:
        return await client.read_reply()
    finally:
        writing.cancel()


async def site_limit(scene: Scene) -> Reply:
    scene.settings(limits={"in_flight_per_environment": 2})
    scene.route("shop.test", [scene.silent()])
    clients = [await scene.client() for _ in range(2)]
    for client in clients:
        await client.write(request("shop.test"))
    await scene.until(lambda: scene.worker.context.counts.exchanges == 2)
    await scene.backends[0].heads.acquire()
    return await scene.get("shop.test")


async def client_limit(scene: Scene) -> Reply:
    scene.settings(limits={"in_flight_per_environment": 8})
    scene.route("shop.test", [scene.silent()])
    clients = [await scene.client() for _ in range(4)]
    for client in clients:
        await client.write(request("shop.test"))
    await scene.until(lambda: len(scene.backends[0].requests) == 4)
    return await scene.get("shop.test")


async def edge_overloaded(scene: Scene) -> Reply:
    scene.settings(limits={"connections": 1})
    await scene.client()
    await scene.until(lambda: scene.snapshot.client_connections == 1)
    client = await scene.client()
    return await client.read_reply()


async def edge_stopped(scene: Scene) -> Reply:
    live = scene.silent()
    scene.route("shop.test", [live])
    client = await scene.client()
    await client.write(request("shop.test"))
    await live.got_head()
    await scene.worker.stop()
    return await client.read_reply()


HOST = b"Host: shop.test\r\n"
CASES = [
    Case(400, "bad_request", "CP", sending(b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n")),
    Case(400, "empty_host", "CP", sending(b"GET / HTTP/1.1\r\n\r\n")),
    Case(501, "bad_request", "CP", sending(b"CONNECT shop.test:80 HTTP/1.1\r\n" + HOST + b"\r\n")),
    Case(505, "bad_request", "CP", sending(b"GET / HTTP/2.0\r\n" + HOST + b"\r\n")),
    Case(404, "unknown_host", "CR", unknown_host),
    Case(429, "unknown_host_limit", "CR", unknown_host_limit),
    Case(405, "method_not_allowed", "CP", sending(b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n")),
    Case(408, "request_timeout", "CP", sending(b"GET / HT", timeouts={"head": SHORT})),
    Case(408, "request_timeout", "CS", slow_body),
    Case(
        413,
        "body_too_large",
        "CP",
        sending(request("shop.test", method="POST", body=b"12345"), limits={"body": 4}),
    ),
    Case(
        413,
        "body_too_large",
        "CS",
        growing_body,
    ),
    Case(414, "uri_too_long", "CP", sending(b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n")),
    Case(417, "expectation_failed", "CP", sending(b"GET / HTTP/1.1\r\n" + HOST + b"Expect: x\r\n\r\n")),
    Case(431, "headers_too_large", "CP", sending(b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 200 + b"\r\n")),
    Case(502, "connect_failed", "BC", of_backend("dead")),
    Case(502, "bad_answer", "BH", of_backend("raw", b"HTTP/1.1 2oo OK\r\n\r\n")),
    Case(502, "response_too_large", "BH", of_backend("raw", b"HTTP/1.1 200 OK\r\nA: " + b"x" * 70_000)),
    Case(502, "closed_early", "BH", of_backend("cutting", -1)),
    Case(502, "misdirected", "BH", of_backend("misdirecting")),
    Case(503, "no_backends", "AR", of_route()),
    Case(503, "drained", "ER", drained),
    Case(503, "all_refused", "BH", of_backend("refusing")),
    Case(503, "lookup_failed", "AR", lookup_failed),
    Case(503, "maintenance", "AR", of_route(maintenance=True)),
    Case(503, "site_limit", "AR", site_limit),
    Case(429, "client_limit", "CR", client_limit),
    Case(503, "edge_overloaded", "EP", edge_overloaded),
    Case(503, "edge_stopped", "EH", edge_stopped),
    Case(504, "connect_timeout", "BC", of_backend("unreachable", timeouts={"connect": SHORT})),
    Case(504, "first_byte_timeout", "BH", of_backend("silent", timeouts={"first_byte": SHORT})),
    Case(
        504, "cold_start_timeout", "BH", of_backend("silent", state="asleep", timeouts={"first_byte_cold": SHORT})
    ),
    Case(504, "stalled", "BS", stalled_upload),
    Case(
        508,
        "loop_detected",
        "AP",
        sending(b"GET / HTTP/1.1\r\n" + HOST + b"Via: 1.1 styx, 1.1 styx, 1.1 styx\r\n\r\n"),
    ),
]
LOG_ONLY = {"client_gone"}
ELSEWHERE = {"host_not_covered"}
"Needs TLS: tests/scenes/test_tls_hosts.py."


def test_no_reason_is_forgotten() -> None:
    documented = {(verdict.status, verdict.reason) for verdict in VERDICTS.values() if verdict.reason}
    assert {reason for _, reason in documented} == {case.reason for case in CASES} | LOG_ONLY | ELSEWHERE
    assert {(status, reason) for status, reason in documented if reason not in LOG_ONLY | ELSEWHERE} == {
        (case.status, case.reason) for case in CASES
    }


@pytest.mark.usefixtures("nobody_idles")
@pytest.mark.parametrize("case", CASES, ids=[f"{case.status} {case.reason} {case.letters}" for case in CASES])
async def test_reason(scene, tmp_path, case):
    path = tmp_path / "access.log"
    scene.settings(access_log={"path": str(path), "flush_interval": 0.01})
    reply = await case.play(scene)

    assert (reply.status, reply.error) == (case.status, case.reason)
    assert reply["cache-control"] == "no-store"
    assert reply["x-styx-edge"] == "edge-1"
    assert abs(parsedate_to_datetime(reply["date"]).timestamp() - time.time()) < 60
    assert "x-styx-backend" not in reply
    assert reply["content-type"] == "text/plain; charset=utf-8"
    assert int(reply["content-length"]) == len(reply.body) > 0
    assert reply.values("retry-after") == ([b"%d" % RETRY_AFTER[case.reason]] if case.status in (429, 503) else [])
    assert ("allow" in reply) == (case.status == 405)

    [told] = [line for line in await logged(scene, path) if line["id"] == reply["x-request-id"]]
    assert told["status"] == case.status
    assert told["blame"] + told["phase"] == case.letters
    assert VERDICTS[scene_cause(told)].reason == case.reason
    assert told["bytes_out"] == len(reply.body)


async def test_a_client_that_left_is_in_the_log_only(scene, tmp_path):
    path = tmp_path / "access.log"
    scene.settings(access_log={"path": str(path), "flush_interval": 0.01})
    scene.route("shop.test", [scene.silent()])
    client = await scene.client()
    await client.write(request("shop.test"))
    await scene.backends[0].heads.acquire()
    client.leave()
    await scene.ended()
    [told] = await logged(scene, path)
    assert (told["status"], told["cause"], told["blame"] + told["phase"]) == (499, "client_gone", "CH")


async def logged(scene: Scene, path) -> list[dict[str, object]]:
    """The lines of the access log, once all that has ended is in it."""
    await scene.until(lambda: path.exists() and path.read_bytes().count(b"\n") == len(scene.outcomes))
    return [json.loads(line) for line in path.read_text().splitlines()]


def scene_cause(told: dict[str, object]):
    return next(cause for cause in VERDICTS if cause.value == told["cause"])
