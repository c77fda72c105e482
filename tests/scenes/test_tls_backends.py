"""Containers that are reached over TLS: who is there is known before a request byte is written."""

import asyncio
import ssl
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import trustme

from edge.net.balancing.backend_tls import BackendTls
from edge.net.tls.tls_contexts import load_pair
from edge.rules.balancing.backend_state import Candidate
from edge.rules.routing.route_response import Backend as RouteBackend
from edge.rules.routing.routes import Route
from tests.support.scene import SHORT, Received, Scene, half_answer, request
from tests.support.scene_backends import Backend, Script, Wire, answering, refusing, silent
from tests.support.tls_parts import TLS12, TLS13, ca, issue

BOTH = pytest.mark.parametrize("method", ["GET", "POST"])
VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=lambda version: version.name)
BODY = b"a" * 1000


def server_context(
    name: str, *, version: ssl.TLSVersion = TLS13, believes: trustme.CA | None = None
) -> ssl.SSLContext:
    """Of a container with a certificate for this id, that wants one of a client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    (believes or ca()).configure_trust(context)
    load_pair(context, issue(f"{name}.containers.internal"))
    return context


def write_identity(directory: Path) -> dict[str, str]:
    """Files with a new certificate of the edge."""
    ours = issue("edge.internal")
    parts = {"ca": ca().cert_pem.bytes(), "certificate": ours.chain, "key": ours.key}
    for name, data in parts.items():
        (directory / name).write_bytes(data)
    return {name: str(directory / name) for name in parts}


class TlsContainers:
    """Scripted containers that speak TLS."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def container(
        self,
        script: Script | None = None,
        *,
        certificate: str = "",
        version: ssl.TLSVersion = TLS13,
        believes: trustme.CA | None = None,
    ) -> Backend:
        """`certificate`: for another id than its own."""
        backend = self.scene.scripted(script or answering())
        backend.tls = server_context(certificate or backend.name, version=version, believes=believes)
        return backend

    @property
    def tls(self) -> BackendTls:
        tls = self.scene.worker.context.pool.tls
        assert tls is not None
        return tls


@pytest.fixture
def secure(scene: Scene, tmp_path: Path) -> TlsContainers:
    scene.settings(backends={"tls": write_identity(tmp_path)})
    return TlsContainers(scene)


async def half_then_closing(wire: Wire, got: Received) -> None:
    """On the first connection, half a response; on others a whole one, and the connection is closed."""
    if got.connection:
        await answering(headers=[("Connection", "close")])(wire, got)
        return
    await wire.send(half_answer(10, "length"))
    await wire.gone.wait()


async def ask(scene: Scene, method: str):
    return await (scene.get("shop.test") if method == "GET" else scene.post("shop.test", body=BODY))


@VERSIONS
@BOTH
async def test_a_request_over_tls(scene, secure, version, method):
    live = secure.container(version=version)
    scene.route("shop.test", [live])
    for _ in range(3):
        assert (await ask(scene, method)).body == b"hello"
    assert (len(live.requests), live.connections) == (3, 1)
    assert secure.tls.handshakes == 1
    assert scene.snapshot.links_idle == 1


async def test_new_connections_resume_the_session(scene, secure):
    closing = answering(headers=[("Connection", "close")])
    live = secure.container(closing)
    scene.route("shop.test", [live])
    for _ in range(4):
        assert (await scene.get("shop.test")).status == 200
        await live.left()
    assert (secure.tls.handshakes, secure.tls.resumed) == (4, 3)


async def test_new_connections_resume_the_session_of_one_that_is_open(scene, secure):
    live = secure.container(half_then_closing)
    scene.route("shop.test", [live])
    first = await scene.client()
    await first.write(request("shop.test"))
    assert await first.read_some()
    for _ in range(3):
        assert (await scene.get("shop.test")).status == 200
    assert (secure.tls.handshakes, secure.tls.resumed) == (4, 3)
    first.leave()


async def test_a_large_body_both_ways(scene, secure):
    body = bytes(range(256)) * 4096

    async def echo(wire: Wire, got: Received) -> None:
        await wire.body(got)
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(got.body), got.body))

    scene.route("shop.test", [secure.container(echo)])
    assert (await scene.post("shop.test", body=body)).body == body


# who is there


@BOTH
async def test_moved_and_another_container_with_a_valid_certificate_on_the_old_port(scene, secure, method):
    """The route leads to a port that another container has taken; the container itself is elsewhere."""
    other, moved = secure.container(certificate="another"), secure.container(answering(body=b"found"))
    other.name = moved.name
    scene.route("shop.test", [other], then=[moved])
    reply = await ask(scene, method)
    assert (reply.status, reply.body) == (200, b"found")
    assert scene.attempts == ["wrong_backend", "ok"]
    assert (other.bytes_in, other.requests) == (0, [])
    assert scene.core.lookups == ["shop.test"] * 2
    assert len(moved.requests) == 1


@BOTH
async def test_another_container_is_passed_over_and_the_route_looked_up(scene, secure, method):
    other, live = secure.container(certificate="another"), secure.container()
    scene.route("shop.test", [other, live])
    assert (await ask(scene, method)).status == 200
    assert scene.attempts == ["wrong_backend", "ok"]
    assert not other.bytes_in
    await scene.core.asked()
    await scene.core.asked()
    assert scene.core.lookups == ["shop.test"] * 2


async def test_only_other_containers(scene, secure):
    scene.route("shop.test", [secure.container(certificate="another")])
    reply = await scene.get("shop.test")
    assert (reply.status, reply.error, scene.letters) == (502, "connect_failed", "BC")
    assert secure.tls.wrong == 1


async def test_a_certificate_of_an_authority_that_is_not_believed(scene, secure):
    own = secure.container()
    assert own.tls is not None
    load_pair(own.tls, issue(f"{own.name}.containers.internal", by=trustme.CA()))
    scene.route("shop.test", [own, secure.container()])
    assert (await scene.get("shop.test")).status == 200
    assert scene.attempts == ["wrong_backend", "ok"]


async def test_a_program_that_speaks_no_tls_gets_no_request(scene, secure):
    received = bytearray()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.extend(await reader.read(4096))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    live = secure.container()
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as plain:
        port = plain.sockets[0].getsockname()[1]
        scene.route("shop.test")["backends"] = [{**live.answer, "id": "plain", "port": port}, live.answer]
        assert (await scene.post("shop.test")).status == 200
    assert scene.attempts == ["connect_failed", "ok"]
    assert received.startswith(b"\x16\x03")
    assert b"POST" not in received


async def test_a_handshake_that_takes_too_long(scene, secure):
    scene.settings(timeouts={"connect": SHORT, "connect_total": 10.0})
    slow, live = scene.scripted(silent), secure.container()
    scene.route("shop.test")["backends"] = [{**slow.answer, "tls": True}, live.answer]
    assert (await scene.post("shop.test")).status == 200
    assert scene.attempts == ["connect_timeout", "ok"]


def test_connections_are_not_mixed_with_plain_ones():
    state = Route(None)
    endpoints = {Candidate(RouteBackend("b", "10.0.0.1", 80, tls=tls), state).endpoint for tls in (True, False)}
    assert len(endpoints) == 2


# the edge's own certificate


@pytest.mark.parametrize(
    ("version", "cause"), [(TLS12, "connect_failed"), (TLS13, "certificate_refused")], ids=["1.2", "1.3"]
)
@BOTH
async def test_a_container_that_refuses_the_certificate_of_the_edge(scene, secure, version, cause, method):
    """In TLS 1.3 that is heard of after the request was written; nothing of it was processed."""
    strict, live = secure.container(believes=trustme.CA(), version=version), secure.container()
    scene.route("shop.test", [strict, live])
    assert (await ask(scene, method)).status == 200
    assert scene.attempts == [cause, "ok"]
    assert not strict.bytes_in
    assert len(live.requests) == 1


async def test_a_container_that_asks_for_a_certificate_that_there_is_not(scene, tmp_path):
    scene.settings(backends={"tls": {"ca": write_identity(tmp_path)["ca"]}})
    secure = TlsContainers(scene)
    strict, live = secure.container(), secure.container()
    assert live.tls is not None
    live.tls.verify_mode = ssl.CERT_NONE
    scene.route("shop.test", [strict, live])
    assert (await scene.post("shop.test", body=BODY)).status == 200
    assert scene.attempts == ["certificate_refused", "ok"]


async def test_files_that_are_replaced(scene, secure, tmp_path):
    live = secure.container()
    scene.route("shop.test", [live])
    await scene.get("shop.test")
    before = secure.tls._tls.context
    write_identity(tmp_path)
    scene.worker.renew_identity()
    await scene.until(lambda: secure.tls._tls.context is not before)
    assert (await scene.get("shop.test")).status == 200
    assert live.connections == 1, "connections that are open stay in use"
    await live.close_idle()
    await scene.until(lambda: not scene.snapshot.links_idle)
    assert (await scene.get("shop.test")).status == 200
    assert (secure.tls.handshakes, secure.tls.resumed) == (2, 0)


async def test_files_that_are_no_good_change_nothing(scene, secure, tmp_path, caplog):
    live = secure.container(answering(headers=[("Connection", "close")]))
    scene.route("shop.test", [live])
    await scene.get("shop.test")
    before = secure.tls._tls.context
    (tmp_path / "key").write_bytes(issue("edge.internal").key)
    for _ in range(5):
        scene.worker.renew_identity()
    await scene.until(lambda: "own_certificate_not_used" in [getattr(r, "code", "") for r in caplog.records])
    assert secure.tls._tls.context is before
    await live.left()
    assert (await scene.get("shop.test")).status == 200


async def test_a_route_with_tls_while_that_is_not_set(scene, caplog):
    plain = scene.backend()
    scene.route("shop.test")["backends"] = [{**plain.answer, "id": "secret", "tls": True}, plain.answer]
    scene.route("all.test")["backends"] = [{**plain.answer, "tls": True}]
    assert (await scene.get("shop.test")).status == 200
    assert [backend.id for backend in scene.worker.explain("shop.test").backends] == [plain.name]
    assert (await scene.get("all.test")).error == "lookup_failed"
    assert len(plain.requests) == 1


async def test_a_stored_route_with_tls_while_that_is_not_set(scene, secure):
    """As after a restart with other settings: nothing is sent in the clear."""
    live = secure.container()
    scene.route("shop.test", [live])
    await scene.edge()
    scene.worker.context.pool.tls = None
    assert (await scene.get("shop.test")).error == "connect_failed"
    assert scene.outcome.cause == "wrong_backend"
    assert not live.connections


# retries


@BOTH
async def test_a_refusal_is_retried(scene, secure, method):
    full, live = secure.container(refusing()), secure.container()
    scene.route("shop.test", [full, live])
    assert (await ask(scene, method)).status == 200
    assert scene.attempts == ["refused", "ok"]
    assert live.last.body == (BODY if method == "POST" else b"")


async def test_posts_to_containers_that_die_are_processed_once(scene, secure):
    rand, processed = Random(1), Counter[bytes]()

    async def dies(wire: Wire, got: Received) -> None:
        how = rand.choice(["early", "late", "reset", "refused", "after", "answers", "answers"])
        if how == "early":
            wire.reset()
            return
        await wire.body(got)
        if how == "refused":
            await wire.send(b"HTTP/1.1 503 Full\r\nX-Styx-Refused: full\r\nContent-Length: 0\r\n\r\n")
            return
        processed[got.body] += 1
        if how in ("late", "reset"):
            (wire.close if how == "late" else wire.reset)()
            return
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        if how == "after":
            wire.close()

    scene.route("shop.test", [secure.container(dies) for _ in range(3)])
    await scene.edge()
    statuses = Counter[int]()
    for batch in range(30):
        replies = await asyncio.gather(
            *(scene.post("shop.test", body=b"%d-%d" % (batch, number)) for number in range(10))
        )
        statuses.update(reply.status for reply in replies)
    assert statuses.total() == 300
    assert statuses[200] > 30
    assert set(processed.values()) == {1}
    assert len(processed) >= statuses[200]
