"""Clients that speak TLS: from the ClientHello to the response, and what others may not do."""

import asyncio
import socket
import ssl
from collections import Counter
from contextlib import ExitStack, suppress

import pytest

from edge.net.certificates.certificate_lookup import NoCertificate
from edge.net.deferred_queue import BATCH
from edge.net.tls.handshakes import Handshakes
from edge.net.tls.tls_accept import TlsAccept
from edge.net.tls.tls_service import TlsService
from edge.net.transport.read_budget import ReadBudget
from edge.rules.tls.client_hello import LIMIT, Alert
from tests.support.hello_builder import hello, records, server_name
from tests.support.needs import needs_plain
from tests.support.scene import MIB, Received, Scene, request
from tests.support.scene_backends import Backend, Wire
from tests.support.tls_client import TlsClient
from tests.support.tls_parts import TLS12, TLS13, StubCertificate, StubCertificates, client_context, issue

PAIR = issue("shop.test", "other.test")
VERSIONS = pytest.mark.parametrize("version", [TLS12, TLS13], ids=lambda version: version.name)


class TlsScene:
    """A scene whose edge speaks TLS, with certificates from a stub."""

    def __init__(self, scene: Scene, certificates: StubCertificates) -> None:
        self.scene = scene
        self.certificates = certificates

    async def start(self, *listeners: dict[str, object], **settings: dict[str, object]) -> TlsService:
        self.scene.listeners(*(listeners or ({"tls": True},)))
        self.scene.settings(**settings)
        worker = await self.scene.edge()
        assert worker.context.tls is not None
        worker.context.tls.certificates = self.certificates
        return worker.context.tls


@pytest.fixture
def secure(scene: Scene, tmp_path) -> TlsScene:
    (tmp_path / "shop.test.pem").write_bytes(PAIR.chain)
    (tmp_path / "shop.test.key").write_bytes(PAIR.key)
    scene.settings(tls={"certificates": f"file:{tmp_path}"})
    stub = StubCertificates()
    stub.ready = {"shop.test": StubCertificate(PAIR)}
    return TlsScene(scene, stub)


@pytest.fixture
def live(scene: Scene) -> Backend:
    backend = scene.backend()
    scene.route("shop.test", [backend])
    return backend


@VERSIONS
async def test_a_request_over_tls(scene, secure, live, version):
    tls = await secure.start()
    client = await TlsClient.of(scene, context=client_context(version=version, alpn=["http/1.1"]))
    for number in range(3):
        await client.write(request("shop.test"))
        assert (await client.read_reply()).body == b"hello"
        assert live.last["x-forwarded-proto"] == b"https"
        assert live.last["x-forwarded-port"] == b"%d" % scene.worker.ports[0]
        assert number + 1 == len(live.requests)
    assert tls.results == {(version.name.replace("_", "."), False): 1}
    assert client.tls.selected_alpn_protocol() == "http/1.1"
    assert tls.bios.is_empty
    assert len(tls.handshakes) == 0


async def test_the_certificate_of_the_settings(scene, secure, live):
    scene.listeners({"tls": True}, {})
    await scene.edge()
    client = await TlsClient.of(scene)
    await client.write(request("shop.test"))
    assert (await client.read_reply()).body == b"hello"
    plain = await scene.client(1)
    await plain.write(request("shop.test"))
    assert (await plain.read_reply()).body == b"hello"
    assert live.last["x-forwarded-proto"] == b"http"


async def test_a_request_that_comes_with_the_end_of_the_handshake(scene, secure, live):
    await secure.start()
    client = await TlsClient.of(scene, first=request("shop.test") * 2)
    assert (await client.read_reply()).body == b"hello"
    assert (await client.read_reply()).body == b"hello"


async def test_a_hello_in_pieces(scene, secure, live):
    await secure.start()
    client = await TlsClient.without_handshake(scene)
    whole = client.write_raw

    async def piecewise(data: bytes) -> None:
        for at in range(0, len(data), 100):
            await whole(data[at : at + 100])
            await asyncio.sleep(0.001)

    client._flush = lambda: piecewise(client._out.read())  # type: ignore[method-assign]
    await client.shake_hands()
    await client.write(request("shop.test"))
    assert (await client.read_reply()).body == b"hello"


async def test_a_proxy_header_before_the_hello(scene, secure, live):
    await secure.start({"tls": True, "proxy_protocol": True, "trusted": ("127.0.0.0/8",)})
    header = b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 8443\r\n"
    client = await TlsClient.of(scene, greeting=header)
    await client.write(request("shop.test"))
    assert (await client.read_reply()).status == 200
    assert live.last["x-forwarded-for"] == b"203.0.113.9"
    assert (live.last["x-forwarded-proto"], live.last["x-forwarded-port"]) == (b"https", b"8443")


@VERSIONS
async def test_sessions_are_resumed(scene, secure, live, version):
    tls = await secure.start()
    context = client_context(version=version)
    first = await TlsClient.of(scene, context=context)
    await first.write(request("shop.test"))
    await first.read_reply()
    second = await TlsClient.of(scene, context=context, session=first.tls.session)
    await second.write(request("shop.test"))
    assert (await second.read_reply()).status == 200
    assert second.tls.session_reused
    assert sorted(tls.results.items()) == [((version.name.replace("_", "."), again), 1) for again in (False, True)]


async def test_ticket_secrets_of_a_file_are_read_again(scene, secure, tmp_path, live):
    one, two = (f"{number}0123456789abcdef" * 4 for number in (1, 2))
    file = tmp_path / "tickets"
    file.touch(mode=0o600)
    file.write_text(one)
    tls = await secure.start(tls={"certificates": f"file:{tmp_path}", "tickets": {"file": str(file)}})
    context = client_context()
    first = await TlsClient.of(scene, context=context)
    await first.write(request("shop.test"))
    await first.read_reply()

    async def resumes() -> bool:
        client = await TlsClient.of(scene, context=context, session=first.tls.session)
        return bool(client.tls.session_reused)

    assert tls.rotation.secrets == ((one.encode(),),)
    for content, mode in ((f"{two}\n{one}", 0o600), ("broken", 0o600), (two, 0o644)):
        file.write_text(content)
        file.chmod(mode)
        scene.worker.renew_identity()
        assert tls.rotation.secrets == ((two.encode(), one.encode()),), "what is no good changes nothing"
        assert await resumes()
    file.chmod(0o600)
    scene.worker.renew_identity()
    assert not await resumes()


async def test_long_bodies(scene, secure):
    body = bytes(range(256)) * 8192

    async def echo(wire: Wire, got: Received) -> None:
        await wire.body(got)
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(got.body), got.body))

    await secure.start()
    scene.route("shop.test", [scene.scripted(echo)])
    client = await TlsClient.of(scene)
    await client.write(request("shop.test", method="POST", body=body))
    assert (await client.read_reply()).body == body


# plain HTTP, and other things that are no ClientHello


async def test_plain_http_gets_400(scene, secure):
    tls = await secure.start()
    client = await scene.client()
    await client.write(request("shop.test"))
    reply = await client.read_reply()
    assert (reply.status, reply.error) == (400, "bad_request")
    assert reply["connection"] == "close"
    assert tls.failures == {"plain_http": 1}
    assert scene.outcome.status == 400


@pytest.mark.parametrize(
    ("data", "response"),
    [
        (b"\x80\x2e\x01\x00\x02" + bytes(41), b""),
        (b"\x00\x01\x02\x03", b""),
        (b"SSH-2.0-OpenSSH_9.2\r\n", b""),
        (b"\x17\x03\x03\x00\x05hello", b"\x15\x03\x01\x00\x02\x02\x0a"),
        (b"\x16\x03\x01\x00\x04\x02\x00\x00\x00", b"\x15\x03\x01\x00\x02\x02\x0a"),
    ],
    ids=["ssl 2", "zeros", "ssh", "data", "server hello"],
)
async def test_junk_is_closed(scene, secure, data, response):
    tls = await secure.start()
    client = await TlsClient.without_handshake(scene)
    await client.write_raw(data)
    try:
        assert await client.read_raw() == response
    except ConnectionResetError:
        assert not response
    assert sum(tls.failures.values()) == 1
    assert not scene.outcomes


# certificates


async def test_a_certificate_that_is_not_there_yet(scene, secure, live):
    tls = await secure.start()
    secure.certificates.slow = {"other.test": StubCertificate(PAIR)}
    scene.route("other.test", [live])
    clients = [asyncio.create_task(TlsClient.of(scene, "other.test")) for _ in range(40)]
    await scene.until(lambda: secure.certificates.waiting == 40)
    other = await TlsClient.of(scene)
    await other.write(request("shop.test"))
    assert (await other.read_reply()).status == 200, "who does not wait for it is served meanwhile"
    secure.certificates.released.set()
    for waiting in clients:
        client = await waiting
        await client.write(request("other.test"))
        assert (await client.read_reply()).status == 200
    assert tls.hosts.built == 2, "its context is built once"


@needs_plain
async def test_handshakes_that_are_released_together_are_spread_over_turns(scene, secure, monkeypatch):
    tls = await secure.start()
    secure.certificates.slow = {"other.test": StubCertificate(PAIR)}
    clients = [asyncio.create_task(TlsClient.of(scene, "other.test")) for _ in range(30)]
    await scene.until(lambda: secure.certificates.waiting == 30)
    loop, turn, handshakes = asyncio.get_running_loop(), 0, Counter[int]()

    def count_turns() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(count_turns)

    shake_hands = TlsAccept._shake_hands

    def counted(self: TlsAccept, context: ssl.SSLContext) -> None:
        handshakes[turn] += 1
        shake_hands(self, context)

    monkeypatch.setattr(TlsAccept, "_shake_hands", counted)
    now = map(float, range(1_000_000)).__next__  # every look at the clock uses up the time of a turn
    monkeypatch.setattr(tls.turns, "_clock", now)
    loop.call_soon(count_turns)
    secure.certificates.released.set()
    await asyncio.gather(*clients)
    assert handshakes.total() == 30
    assert max(handshakes.values()) == 1


async def test_a_name_without_a_certificate(scene, secure):
    tls = await secure.start()
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await TlsClient.of(scene, "stranger.test")
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await TlsClient.of(scene, None)
    assert secure.certificates.asked == ["stranger.test"], "without a name, nothing is asked"
    assert tls.alerts == {112: 2}
    assert tls.failures == {"absent": 1, "no_name": 1}


@pytest.mark.parametrize("name", [None, "stranger.test", "127.0.0.1"])
async def test_the_default_certificate(scene, secure, live, name):
    await secure.start(tls={"default": "shop.test"})
    scene.route("stranger.test", [live])
    context = client_context()
    context.check_hostname = False
    client = await TlsClient.of(scene, name, context=context)
    await client.write(request("stranger.test"))
    assert (await client.read_reply()).status == 200


async def test_a_name_beyond_ascii_is_refused_before_python_sees_it(scene, secure):
    """The `ssl` module would complain about it on standard error, each time."""
    tls = await secure.start(tls={"default": "shop.test"})
    client = await TlsClient.without_handshake(scene)
    whole = client.write_raw

    async def changed() -> None:
        await whole(client._out.read().replace(b"shop.test", b"shop.te\xf4t"))

    client._flush = changed  # type: ignore[method-assign]
    await client.hello()
    assert await client.read_raw() == b"\x15\x03\x01\x00\x02\x02\x70"
    assert tls.failures == {"bad_hello": 1}


async def test_without_a_default_an_unknown_name_is_not_served_by_what_is_known(scene, secure):
    await secure.start(tls={"default": "stranger.test"})
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await TlsClient.of(scene, "stranger.test")
    assert secure.certificates.asked == ["stranger.test"]


async def test_a_certificate_that_cannot_be_asked_for(scene, secure):
    tls = await secure.start()
    secure.certificates.broken = {"shop2.test"}
    secure.certificates.ready["bad.test"] = StubCertificate(PAIR._replace(key=issue("bad.test").key))
    for name in ("shop2.test", "bad.test"):
        with pytest.raises(ssl.SSLError, match="INTERNAL_ERROR"):
            await TlsClient.of(scene, name)
    assert tls.alerts == {80: 2}
    assert tls.failures == {"failed": 1, "certificate_unusable": 1}


async def test_a_client_that_leaves_waits_no_more(scene, secure):
    tls = await secure.start()
    secure.certificates.slow = {"other.test": StubCertificate(PAIR)}
    client = await TlsClient.without_handshake(scene)
    await client.hello("other.test")
    await scene.until(lambda: secure.certificates.waiting == 1)
    assert len(tls.handshakes) == 1
    client.leave()
    await scene.until(lambda: secure.certificates.waiting == 0)
    await scene.until(lambda: not scene.snapshot.client_connections)
    assert tls.failures == {"client_gone": 1}
    assert len(tls.handshakes) == 0


async def test_a_client_that_does_not_trust_the_certificate(scene, secure):
    tls = await secure.start()
    with pytest.raises(ssl.SSLCertVerificationError):
        await TlsClient.of(scene, context=ssl.create_default_context())
    scene.clients[-1].leave()
    await scene.until(lambda: not scene.snapshot.client_connections)
    assert sum(tls.failures.values()) == 1
    assert tls.bios.is_empty


async def test_certificates_of_the_core_api_are_asked_for_once(scene):
    scene.listeners({"tls": True})
    backend = scene.backend()
    names = [f"site{number}.test" for number in range(10)]
    for number, name in enumerate(names):
        scene.route(name, [backend])
        pair = issue(name)
        pem = {"chain": pair.chain.decode(), "key": pair.key.decode()}
        scene.core.certificates[name] = {"names": [name], "generation": number, "certificates": [pem]}
    await scene.edge()
    scene.core.hold()
    clients = [asyncio.create_task(TlsClient.of(scene, name)) for name in names for _ in range(8)]
    await scene.until(lambda: len(scene.core.certificates_asked) == len(names))
    await scene.until(lambda: len(scene.worker.context.tls.handshakes) == len(clients))
    scene.core.release()
    for name, waiting in zip([name for name in names for _ in range(8)], clients, strict=True):
        client = await waiting
        await client.write(request(name))
        assert (await client.read_reply()).body == b"hello"
    assert sorted(scene.core.certificates_asked) == names
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await TlsClient.of(scene, "stranger.test")
    await scene.core.stop()
    client = await TlsClient.of(scene, names[0])
    await client.write(request(names[0]))
    assert (await client.read_reply()).body == b"hello", "known names are served on without the core API"


# limits


@pytest.mark.parametrize("part", [0, 50, 2000])
async def test_a_handshake_has_a_deadline(scene, secure, part):
    tls = await secure.start(timeouts={"handshake": 500.0})
    client = await TlsClient.without_handshake(scene)
    if part:
        whole, client.write_raw = client.write_raw, None  # type: ignore[assignment]

        async def cut() -> None:
            await whole(client._out.read()[:part])

        client._flush = cut  # type: ignore[method-assign]
        await client.hello()
    await scene.until(lambda: any(isinstance(m, TlsAccept) for m in scene.worker.context.deadline_sweep))
    if part == 2000:
        await scene.until(lambda: len(tls.handshakes) == 1)
    scene.pass_time(400.0)
    assert not tls.failures
    scene.pass_time(200.0)
    await scene.until(lambda: tls.failures == {"timeout": 1})
    await scene.until(lambda: not scene.snapshot.client_connections)
    assert len(tls.handshakes) == 0


async def test_half_handshakes_make_room_for_new_ones(scene, secure, live):
    tls = await secure.start(timeouts={"handshake": 500.0})
    await TlsClient.of(scene)  # its context is ready now: who waits for that is counted apart
    tls.handshakes = Handshakes(3, settling=100.0)  # longer than this test takes on any machine
    for _ in range(3):
        client = await TlsClient.without_handshake(scene)
        await client.hello()
    await scene.until(lambda: len(tls.handshakes) == 3)
    with pytest.raises(ConnectionResetError):
        await TlsClient.of(scene)
    assert tls.failures == {"limit": 1}, "each has had no time to answer yet"
    scene.pass_time(101.0)
    client = await TlsClient.of(scene)
    await client.write(request("shop.test"))
    assert (await client.read_reply()).status == 200
    assert tls.failures == {"limit": 1, "given_up": 1}
    assert tls.handshakes.given_up == 1


async def test_a_refusal_that_is_known_needs_no_lookup(scene, secure, live):
    tls = await secure.start()
    secure.certificates.refusals = {
        "none.test": NoCertificate(Alert.UNRECOGNIZED_NAME, "absent"),
        "flood.test": NoCertificate(Alert.INTERNAL_ERROR, "refused"),
    }
    for name, alert in (("none.test", "UNRECOGNIZED_NAME"), ("flood.test", "INTERNAL_ERROR")):
        with pytest.raises(ssl.SSLError, match=alert):
            await TlsClient.of(scene, name)
    assert tls.failures == {"absent": 1, "refused": 1}
    assert secure.certificates.asked == []


async def test_a_known_absence_leads_to_the_default_certificate(scene, secure, live):
    tls = await secure.start(tls={"default": "shop.test"})
    secure.certificates.refusals = {
        "none.test": NoCertificate(Alert.UNRECOGNIZED_NAME, "absent"),
        "flood.test": NoCertificate(Alert.INTERNAL_ERROR, "refused"),
    }
    context = client_context()
    context.check_hostname = False
    await TlsClient.of(scene, "none.test", context=context)
    with pytest.raises(ssl.SSLError, match="INTERNAL_ERROR"):
        await TlsClient.of(scene, "flood.test")
    assert tls.failures == {"refused": 1}
    assert secure.certificates.asked == []


async def test_made_up_names_are_refused_a_few_in_each_turn(scene, secure):
    """However many hellos have come at once: other connections are served in between."""
    tls = await secure.start()
    secure.certificates.refusals = {"none.test": NoCertificate(Alert.INTERNAL_ERROR, "refused")}
    count, first = 5 * BATCH, records(hello(server_name(b"none.test")))
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(count)]
        for client in clients:
            client.connect(("127.0.0.1", scene.worker.ports[0]))
        await scene.until(lambda: scene.worker.context.counts.accepted == count)
        for client in clients:  # in one turn of the loop
            client.send(first)
        before = 0
        async with asyncio.timeout(100):
            while before < count:
                await asyncio.sleep(0)
                assert tls.failures["refused"] - before <= BATCH
                before = tls.failures["refused"]


async def test_hellos_beyond_the_time_of_a_turn_are_read_in_later_ones(scene, secure):
    """Whatever they contain; and what comes in pieces meanwhile is read as a whole."""
    tls = await secure.start()
    tls.turns = ReadBudget(asyncio.get_running_loop(), map(float, range(1_000_000)).__next__, per_turn=0.0)
    secure.certificates.refusals = {"none.test": NoCertificate(Alert.INTERNAL_ERROR, "refused")}
    first, count = records(hello(server_name(b"none.test"))), 20
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(2 * count)]
        for client in clients:
            client.connect(("127.0.0.1", scene.worker.ports[0]))
        await scene.until(lambda: scene.worker.context.counts.accepted == len(clients))
        for client in clients[:count]:
            client.send(records(b"\2\0\0\0"))  # no hello
        for client in clients[count:]:
            client.send(first[:50])
        before = 0
        async with asyncio.timeout(100):
            while before < count:
                await asyncio.sleep(0)
                assert tls.failures["bad_hello"] - before <= 3, "two of a turn, and one deferred"
                if not before:
                    for client in clients[count:]:
                        client.send(first[50:])
                before = tls.failures["bad_hello"]
        await scene.until(lambda: tls.failures["refused"] == count)


async def test_no_more_than_a_hello_and_one_read_is_left_to_a_later_turn(scene, secure):
    class StoppedLoop(asyncio.AbstractEventLoop):
        """Has no later turn."""

        def call_soon(self, *_args, **_options):
            pass

    tls = await secure.start()
    turns = tls.turns = ReadBudget(StoppedLoop(), lambda: 0.0)
    turns.defer(lambda: None)
    client = await scene.client()
    await client.write(b"\x16\3\1\x03\xe3" + bytes(LIMIT - 5))
    await scene.until(lambda: len(turns) == 2)
    await client.write(bytes(1))
    await scene.until(lambda: tls.failures["bad_hello"] == 1)


@pytest.mark.parametrize("may_ask", [True, False])
async def test_who_waits_for_the_limit_of_unknown_hosts_has_no_task(scene, secure, live, may_ask):
    tls = await secure.start()
    certificates = secure.certificates
    certificates.slow = {"other.test": StubCertificate(PAIR)}
    certificates.released.set()
    certificates.queued = {"other.test": None}
    client = asyncio.create_task(TlsClient.of(scene, "other.test"))
    await scene.until(lambda: certificates.queued["other.test"] is not None)
    go_on, refused = certificates.queued["other.test"]
    assert certificates.asked == []
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "certificate"]
    assert len(tls.handshakes) == 1, "it counts as one that waits for a certificate"
    if may_ask:
        go_on(None)
        await client
    else:
        refused()
        with pytest.raises(ssl.SSLError, match="INTERNAL_ERROR"):
            await client
        assert tls.failures == {"refused": 1}
    assert len(tls.handshakes) == 0


async def test_who_leaves_waits_for_the_limit_of_unknown_hosts_no_more(scene, secure):
    tls = await secure.start()
    certificates = secure.certificates
    certificates.queued = {"other.test": None}
    client = await TlsClient.without_handshake(scene)
    await client.hello("other.test")
    await scene.until(lambda: certificates.queued.get("other.test") is not None)
    client.reset()
    await scene.until(lambda: not certificates.queued)
    assert tls.failures == {"client_gone": 1}
    assert len(tls.handshakes) == 0


async def test_those_that_wait_for_a_certificate_keep_nobody_out(scene, secure):
    """Names can be made up: a flood of them must not lock out the clients of names that are known."""
    tls = await secure.start(limits={"handshakes": 2})
    secure.certificates.slow = {"other.test": StubCertificate(PAIR)}
    await TlsClient.of(scene)  # its context is ready now
    waiting = []
    for number in range(2):
        waiting.append(asyncio.create_task(TlsClient.of(scene, "other.test")))
        await scene.until(lambda: secure.certificates.waiting == number + 1)  # noqa: B023
    scene.pass_time(5.0)
    await TlsClient.of(scene)
    assert not tls.failures
    waiting.append(asyncio.create_task(TlsClient.of(scene, "other.test")))
    with pytest.raises(ConnectionResetError):
        await waiting[0]
    assert tls.failures == {"given_up": 1}, "the one that has waited longest"
    await scene.until(lambda: secure.certificates.waiting == 2)
    secure.certificates.released.set()
    await asyncio.gather(*waiting[1:])
    assert len(tls.handshakes) == 0


async def test_one_client_may_not_have_all_handshakes(scene, secure, live):
    tls = await secure.start(limits={"handshakes_per_client": 1.0})
    for _ in range(2):
        await TlsClient.of(scene)
    with pytest.raises(ConnectionResetError):
        await TlsClient.of(scene)
    await TlsClient.of(scene, source="127.0.0.2")
    assert tls.failures == {"client_limit": 1}


async def test_a_trusted_proxy_is_not_limited(scene, secure, live):
    await secure.start({"tls": True, "trusted": ("127.0.0.0/8",)}, limits={"handshakes_per_client": 1.0})
    for _ in range(5):
        await TlsClient.of(scene)


async def test_beyond_the_limit_of_connections_nothing_is_said_in_plain(scene, secure, live):
    await secure.start(limits={"connections_per_client": 1, "connections": 10})
    await TlsClient.of(scene)
    client = await TlsClient.without_handshake(scene)
    with suppress(ConnectionResetError):
        assert await client.read_raw() == b""
    assert scene.snapshot.client_connections_refused == 1


# the end of a connection


async def test_a_client_that_ends_its_half_is_gone(scene, secure):
    await secure.start()
    silent = scene.silent()
    scene.route("shop.test", [silent])
    client = await TlsClient.of(scene)
    await client.write(request("shop.test"))
    await scene.until(lambda: bool(silent.requests))
    await client.end_half()
    await scene.ended()
    assert scene.outcome.cause == "client_gone"


async def test_an_idle_connection_is_closed_with_close_notify(scene, secure, live):
    await secure.start(timeouts={"keep_alive": 5.0})
    client = await TlsClient.of(scene)
    await client.write(request("shop.test"))
    assert (await client.read_reply()).status == 200
    scene.pass_time(5.1)
    assert await client.read_some() == b""


async def test_a_reader_that_stops_is_not_buffered_for(scene, secure):
    async def flood(wire: Wire, got: Received) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
        for _ in range(64):
            await wire.send(b"x" * MIB)

    await secure.start()
    scene.route("shop.test", [scene.scripted(flood)])
    client = await TlsClient.of(scene, receive_buffer=4096)
    await client.write(request("shop.test"))
    await client.read_some()
    await scene.until(lambda: any(not connection.writable for connection in scene.connections))
    [connection] = scene.connections
    held = connection.held_bytes
    await asyncio.sleep(0.05)
    assert connection.held_bytes == held < 256 * 1024
    client.leave()
    await scene.ended()


async def test_an_upload_that_is_not_taken_is_not_buffered_for(scene, secure):
    async def slow(wire: Wire, got: Received) -> None:
        wire.transport.pause_reading()
        wire.backend.hold()
        await wire.gate()

    await secure.start()
    scene.route("shop.test", [scene.scripted(slow)])
    client = await TlsClient.of(scene)
    size = 64 * MIB
    await client.write(b"POST / HTTP/1.1\r\nHost: shop.test\r\nContent-Length: %d\r\n\r\n" % size)
    sending = asyncio.create_task(client.write(b"x" * size))
    await scene.until(lambda: any(connection.paused for connection in scene.connections))
    [connection] = scene.connections
    held = connection.held_bytes
    await asyncio.sleep(0.05)
    assert connection.held_bytes == held < 512 * 1024
    assert not sending.done()
    sending.cancel()
    client.leave()
    await scene.ended()


async def test_the_edge_stops_in_a_handshake(scene, secure):
    tls = await secure.start()
    client = await TlsClient.without_handshake(scene)
    await scene.until(lambda: any(isinstance(m, TlsAccept) for m in scene.worker.context.deadline_sweep))
    await scene.worker.stop(time_limit=0.0)
    with suppress(ConnectionResetError):
        assert await client.read_raw() == b""
    assert tls.failures == {"edge_stopped": 1}
