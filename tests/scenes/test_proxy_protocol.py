"""A proxy before the edge tells whose connection it is; only one that is trusted, and only where it is asked to."""

import asyncio
import shutil
import socket
from pathlib import Path

import pytest

from tests.support.scene import SHORT, Client, request
from tests.support.scene_backends import DEADLINE

HERE = ("127.0.0.0/8",)
ASKED = {"proxy_protocol": True, "trusted": HERE}
TEXT = b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 443\r\n"
SIX = b"PROXY TCP6 2001:db8::9 2001:db8::1 56324 8443\r\n"
BINARY = bytes.fromhex("0D0A0D0A000D0A515549540A 21 11 0011 CB007109 C6336401 DC04 01BB 04 0002 0000")
LOCAL = bytes.fromhex("0D0A0D0A000D0A515549540A 20 00 0000")
PLAIN = request("shop.test")
CLAIMS = request("shop.test", headers=[("X-Forwarded-For", "10.9.9.9"), ("X-Forwarded-Port", "7")])


@pytest.fixture
def live(scene):
    backend = scene.backend()
    scene.route("shop.test", [backend])
    return backend


def told(backend, path="/"):
    """What the backend was told about the client of its last request for this path."""
    got = [request for request in backend.requests if request.target == path.encode()][-1]
    return got["x-forwarded-for"].decode(), int(got["x-forwarded-port"])


@pytest.mark.parametrize(
    ("header", "client"),
    [(TEXT, ("203.0.113.9", 443)), (SIX, ("2001:db8::9", 8443)), (BINARY, ("203.0.113.9", 443))],
    ids=["v1", "v1 of IPv6", "v2"],
)
async def test_the_client_is_whom_the_header_names(scene, live, header, client):
    scene.listeners(ASKED)
    connection = await scene.client()
    await connection.write(header + CLAIMS)
    assert (await connection.read_reply()).status == 200
    assert told(live) == client
    await connection.write(PLAIN)
    assert (await connection.read_reply()).status == 200
    assert told(live) == client
    assert [outcome.client for outcome in scene.outcomes] == [client[0]] * 2
    assert scene.snapshot.client_connections_accepted == 1


@pytest.mark.parametrize("header", [TEXT, BINARY], ids=["v1", "v2"])
async def test_a_header_that_comes_before_its_request(scene, live, header):
    scene.listeners(ASKED)
    connection = await scene.client()
    for piece in (header[:1], header[1:13], header[13:]):
        await connection.write(piece)
        await asyncio.sleep(0)
    await connection.write(PLAIN)
    assert (await connection.read_reply()).status == 200
    assert told(live) == ("203.0.113.9", 443)


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN whatever\r\n"], ids=["v2", "v1"])
async def test_the_proxy_itself(scene, live, header):
    scene.listeners(ASKED)
    connection = await scene.client()
    await connection.write(header + PLAIN)
    assert (await connection.read_reply()).status == 200
    assert told(live) == ("127.0.0.1", scene.worker.ports[0])


async def test_a_client_that_is_a_trusted_proxy_is_believed(scene, live):
    """Two proxies in a row: the first one, which the header names, says X-Forwarded-For."""
    scene.listeners({"proxy_protocol": True, "trusted": (*HERE, "203.0.113.0/24")})
    connection = await scene.client()
    await connection.write(TEXT + CLAIMS)
    assert (await connection.read_reply()).status == 200
    assert live.last["x-forwarded-for"] == b"10.9.9.9, 203.0.113.9"
    assert live.last["x-forwarded-port"] == b"7"


async def test_trust_is_that_of_the_listener(scene, live):
    scene.settings(forwarding={"trusted": HERE})
    scene.listeners({}, {"trusted": ()}, {"trusted": ("192.0.2.0/24",)}, ASKED)
    for listener, (chain, port) in enumerate([("10.9.9.9, 127.0.0.1", 7), ("127.0.0.1", 0), ("127.0.0.1", 0)]):
        connection = await scene.client(listener)
        await connection.write(CLAIMS)
        assert (await connection.read_reply()).status == 200
        assert told(live) == (chain, port or scene.worker.ports[listener])
    connection = await scene.client(3)
    await connection.write(TEXT + CLAIMS)
    assert (await connection.read_reply()).status == 200
    assert told(live) == ("203.0.113.9", 443)


async def test_an_ipv4_client_of_an_ipv6_socket_has_its_ipv4_address(scene, live):
    scene.listeners({"address": ":0", "trusted": HERE}, {"address": ":0", **ASKED})
    connection = await scene.client()
    await connection.write(CLAIMS)
    assert (await connection.read_reply()).status == 200
    assert told(live) == ("10.9.9.9, 127.0.0.1", 7)
    connection = await scene.client(1)
    await connection.write(TEXT + PLAIN)
    assert (await connection.read_reply()).status == 200
    assert told(live) == ("203.0.113.9", 443)


@pytest.mark.parametrize("networks", [{"trusted": ("192.0.2.0/24",)}, {}], ids=["its own", "of forwarding"])
async def test_nobody_else_may_say_who_a_client_is(scene, live, networks):
    scene.settings(forwarding={"trusted": ("198.51.100.0/24",)})
    scene.listeners({"proxy_protocol": True, **networks})
    connection = await scene.client()
    assert await connection.closed()
    await scene.until(lambda: scene.snapshot.client_connections_refused == 1)
    assert not live.connections
    assert not scene.outcomes


@pytest.mark.parametrize(
    "sent", [PLAIN, b"PROXY TCP4 1.2.3.4\r\n" + PLAIN, BINARY[:13] + b"\x12" + BINARY[14:] + PLAIN, b"\x16\x03\x01"]
)
async def test_a_wrong_header_is_closed_without_a_word(scene, live, sent):
    scene.listeners(ASKED)
    connection = await scene.client()
    await connection.write(sent)
    assert await connection.closed()
    await scene.until(lambda: scene.snapshot.client_connections_refused == 1)
    assert not live.connections
    assert not scene.outcomes


@pytest.mark.parametrize("sent", [b"", TEXT[:-1], BINARY[:20]])
async def test_a_header_that_does_not_come_in_time(scene, sent):
    scene.settings(timeouts={"head": SHORT})
    scene.listeners(ASKED)
    connection = await scene.client()
    if sent:
        await connection.write(sent)
    assert await connection.closed()
    await scene.until(lambda: not scene.snapshot.client_connections)
    assert not scene.outcomes


@pytest.mark.parametrize("trusted", [(), HERE])
@pytest.mark.parametrize("header", [TEXT, BINARY, LOCAL], ids=["v1", "v2", "v2 local"])
async def test_where_nobody_asks_for_it_a_header_is_a_bad_request(scene, live, header, trusted):
    scene.settings(forwarding={"trusted": trusted})
    connection = await scene.client()
    await connection.write(header + PLAIN)
    reply = await connection.read_reply()
    assert (reply.status, reply.error, reply["connection"]) == (400, "bad_request", "close")
    assert await connection.closed()
    assert not live.connections


async def unix_client(path):
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, str(path))
    return Client(sock)


async def test_a_unix_socket(scene, live, tmp_path):
    """Who may open it is local, and trusted, whatever networks are. It has no port: http.s stands for it."""
    scene.listeners({"address": f"unix:{tmp_path}/edge.sock", "proxy_protocol": True})
    await scene.edge()
    for header, client in (
        (TEXT, ("203.0.113.9", 443)),
        (BINARY, ("203.0.113.9", 443)),
        (LOCAL, ("127.0.0.1", 80)),
    ):
        connection = await unix_client(tmp_path / "edge.sock")
        scene.clients.append(connection)
        await connection.write(header + PLAIN)
        assert (await connection.read_reply()).status == 200
        assert told(live) == client


# behind the real thing

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
# It connects from this address, its clients from others.
ONLY_IT = {"proxy_protocol": True, "trusted": ("127.0.0.1",)}
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is missing: apt-get install haproxy")

CONFIG = """\
defaults
    mode http
    timeout connect 5s
    timeout check 10s
    timeout client 10s
    timeout server 10s
frontend before
    bind fd@{fd}
    default_backend edge
backend edge
    option httpchk
    http-check send meth GET uri /health ver HTTP/1.1 hdr Host shop.test
    server styx {where} {options}
"""


class HAProxy:
    """HAProxy before the edge. Its socket listens before it runs, so that nobody need wait for it."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self._sock = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._process: asyncio.subprocess.Process | None = None
        self.port = self._sock.getsockname()[1]

    async def start(self, directory: Path, where: str, options: str) -> None:
        assert HAPROXY is not None
        path = directory / "haproxy.cfg"
        path.write_text(CONFIG.format(fd=self._sock.fileno(), where=where, options=options))
        self._process = await asyncio.create_subprocess_exec(
            HAPROXY, "-db", "-f", path, pass_fds=[self._sock.fileno()], stderr=asyncio.subprocess.DEVNULL
        )

    async def connect(self, address: str) -> Client:
        """A client that connects from this address."""
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
        sock.setblocking(False)
        sock.bind((address, 0))
        await asyncio.get_running_loop().sock_connect(sock, self._sock.getsockname()[:2])
        return Client(sock)

    async def stop(self) -> None:
        self._sock.close()
        if self._process is not None:
            self._process.kill()
            async with asyncio.timeout(DEADLINE):
                await self._process.wait()


@pytest.fixture
async def haproxy():
    started = []

    async def start(directory, where, options, host="127.0.0.1"):
        proxy = HAProxy(host)
        started.append(proxy)
        await proxy.start(directory, where, options)
        return proxy

    yield start
    for proxy in started:
        await proxy.stop()


VERSIONS = pytest.mark.parametrize(
    "options", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"]
)


@needs_haproxy
@VERSIONS
@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.5"), ("::1", "::1")])
async def test_behind_haproxy(scene, live, haproxy, tmp_path, options, host, address):
    scene.listeners(ONLY_IT)
    worker = await scene.edge()
    proxy = await haproxy(tmp_path, f"127.0.0.1:{worker.ports[0]}", options, host)
    for _ in range(2):
        client = await proxy.connect(address)
        scene.clients.append(client)
        for _ in range(2):
            await client.write(CLAIMS)
            reply = await client.read_reply()
            assert (reply.status, reply.body) == (200, b"hello")
            assert told(live) == (address, proxy.port)
    assert {outcome.client for outcome in scene.outcomes} == {address}


@needs_haproxy
@VERSIONS
async def test_behind_haproxy_on_a_unix_socket(scene, live, haproxy, tmp_path, options):
    scene.listeners({"address": f"unix:{tmp_path}/edge.sock", "proxy_protocol": True})
    await scene.edge()
    proxy = await haproxy(tmp_path, f"unix@{tmp_path}/edge.sock", options)
    client = await proxy.connect("127.0.0.5")
    scene.clients.append(client)
    await client.write(PLAIN)
    assert (await client.read_reply()).status == 200
    assert told(live) == ("127.0.0.5", proxy.port)


@needs_haproxy
@VERSIONS
async def test_health_checks_of_haproxy_are_its_own(scene, live, haproxy, tmp_path, options):
    scene.listeners(ONLY_IT)
    worker = await scene.edge()
    address = f"127.0.0.1:{worker.ports[0]}"
    proxy = await haproxy(tmp_path, address, f"{options} check check-send-proxy inter 50 fall 1000")
    await live.got_head()
    assert told(live, "/health") == ("127.0.0.1", worker.ports[0])
    client = await proxy.connect("127.0.0.5")
    scene.clients.append(client)
    await client.write(PLAIN)
    assert (await client.read_reply()).status == 200
    assert told(live) == ("127.0.0.5", proxy.port)


@needs_haproxy
async def test_haproxy_where_nobody_asks_for_its_header(scene, live, haproxy, tmp_path):
    worker = await scene.edge()
    proxy = await haproxy(tmp_path, f"127.0.0.1:{worker.ports[0]}", "send-proxy")
    client = await proxy.connect("127.0.0.5")
    scene.clients.append(client)
    await client.write(PLAIN)
    assert (await client.read_reply()).error == "bad_request"
    assert not live.connections
