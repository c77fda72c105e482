"""Chromium, Node and curl over HTTP/2, as an edge on the internet meets them: TLS, ALPN, a certificate of a CA."""

import base64
import hashlib
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.real.real_programs import HERE, program
from tests.real.test_browser import EXPECTED, FLAGS
from tests.support.tls_parts import ca, issue

PAIR = issue("site.localhost")


@pytest.fixture
def trusted(scene, tmp_path):
    """The file of the CA; the edge has certificates of it, and speaks TLS."""
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (certificates / "site.localhost.pem").write_bytes(PAIR.chain + PAIR.key)
    path = tmp_path / "ca.pem"
    path.write_bytes(ca().cert_pem.bytes())
    scene.listeners({"tls": True})
    scene.settings(tls={"certificates": f"file:{certificates}"})
    return path


def key_pin() -> str:
    """The key of the certificate, as Chromium names one that it shall trust."""
    key = x509.load_pem_x509_certificate(PAIR.chain).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(spki).digest()).decode()


async def test_a_page_with_everything(trusted, asgi_site, start, scene, tmp_path):
    """The page of test_browser, on one connection: assets, uploads, event streams, and WebSockets as streams."""
    program("chromium")
    flags = (*FLAGS, f"--ignore-certificate-errors-spki-list={key_pin()}", f"--user-data-dir={tmp_path}/profile")
    await start("chromium", *flags, f"https://site.localhost:{asgi_site.edge}/")
    assert await asgi_site.told("/reported") == EXPECTED
    assert {outcome.protocol for outcome in scene.outcomes} == {"h2"}
    sockets = [outcome for outcome in scene.outcomes if outcome.target == "/ws"]
    assert [outcome.status for outcome in sockets] == [101, 101]
    assert scene.worker.context.h2.connections <= 2


@pytest.fixture
def node(trusted, node_site, run):
    """node(ACTION) -> the lines that client_h2.js tells."""

    async def told(action):
        got = await run("node", HERE / "client_h2.js", f"https://site.localhost:{node_site.edge}", trusted, action)
        return [json.loads(line) for line in got.text.splitlines()]

    return told


async def test_node_on_one_connection(node, scene):
    assert await node("many") == [[True] * 80]
    assert scene.snapshot.client_connections_accepted == 1
    assert scene.worker.context.h2.streams == 80


async def test_node_uploads(node):
    assert await node("upload") == [{"status": 200, "same": True}]


async def test_node_sends_and_gets_trailers(node):
    [told] = await node("trailers")
    assert told["sent"] == {"x-sum": "3"}
    assert told["got"]


async def test_node_gives_up_a_stream(node, scene):
    assert await node("abort") == [200]
    await scene.ended(2)
    assert {outcome.cause.value for outcome in scene.outcomes} == {"ok", "client_gone"}
    assert scene.snapshot.client_connections_accepted == 1


async def test_node_pings(node):
    assert await node("ping") == [{"streams": 128, "connect": True}]


async def test_node_opens_a_websocket(trusted, asgi_site, run, scene):
    url = f"https://site.localhost:{asgi_site.edge}"
    got = await run("node", HERE / "client_h2.js", url, trusted, "websocket")
    lines = [json.loads(line) for line in got.text.splitlines()]
    assert lines == [{"status": 200, "protocol": "chat", "heard": "hello"}, 0]
    assert (await scene.ended()).status == 101


async def test_curl_many_at_once(trusted, node_site, run, scene, tmp_path):
    base = f"https://site.localhost:{node_site.edge}"
    options = (
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--cacert",
        trusted,
        "--parallel",
        "--parallel-max",
        20,
    )
    resolve = ("--resolve", f"site.localhost:{node_site.edge}:127.0.0.1")
    told = ("--write-out", "%{http_version} %{http_code}\\n", "--output-dir", tmp_path, "--output", "body_#1")
    got = await run("curl", *options, *resolve, *told, f"{base}/bytes/[1000-1039]")
    assert got.text.split("\n") == ["2 200"] * 40 + [""]
    assert sorted(path.stat().st_size for path in tmp_path.glob("body_*")) == list(range(1000, 1040))
    assert {outcome.protocol for outcome in scene.outcomes} == {"h2"}
