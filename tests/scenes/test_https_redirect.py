"""A listener that redirects to https, but for the challenges of ACME."""

import json

import pytest

from tests.support.scene import LISTENERS, request


@pytest.fixture
def redirecting(scene, kind):
    def begin(port: object = True) -> None:
        scene.listeners({**LISTENERS[kind], "redirect_to_https": port}, LISTENERS[kind])

    return begin


@pytest.mark.parametrize(("port", "authority"), [(True, "shop.test"), (443, "shop.test"), (8443, "shop.test:8443")])
async def test_a_request_is_redirected(scene, redirecting, port, authority):
    redirecting(port)
    reply = await scene.get("shop.test:8080", "/cart?id=1")
    assert (reply.status, reply["location"], reply.error) == (308, f"https://{authority}/cart?id=1", None)
    assert reply.body == b""
    assert scene.core.lookups == [], "no route is looked up"
    assert (scene.outcome.cause, scene.outcome.status, scene.letters) == ("redirected", 308, "--")
    assert (scene.outcome.tls, scene.outcome.sni, scene.outcome.resumed) == ("", "", False)


async def test_the_access_log_says_so(scene, redirecting, tmp_path):
    path = tmp_path / "access.log"
    scene.settings(access_log={"path": str(path), "flush_interval": 0.01})
    redirecting()
    await scene.get("shop.test")
    await scene.until(lambda: path.exists() and bool(path.read_bytes()))
    line = json.loads(path.read_text())
    assert (line["cause"], line["status"], line["blame"], line["tls"]) == ("redirected", 308, "-", "")


async def test_a_challenge_passes_to_the_site(scene, redirecting):
    redirecting()
    live = scene.backend(body=b"proof")
    scene.route("shop.test", [live])
    reply = await scene.get("shop.test", "/.well-known/acme-challenge/token")
    assert (reply.status, reply.body) == (200, b"proof")


async def test_a_connection_goes_on(scene, redirecting):
    redirecting()
    scene.route("shop.test", [scene.backend(body=b"proof")])
    client = await scene.client()
    for target, status in (("/", 308), ("/.well-known/acme-challenge/a", 200), ("/b", 308)):
        await client.write(request("shop.test", target))
        assert (await client.read_reply()).status == status


async def test_a_body_is_not_waited_for(scene, redirecting):
    redirecting()
    client = await scene.client()
    await client.write(request("shop.test", method="POST", body=b"x" * 20_000)[:-5_000])
    assert (await client.read_reply()).status == 308


async def test_another_listener_serves(scene, redirecting):
    redirecting()
    scene.route("shop.test", [scene.backend()])
    client = await scene.client(1)
    await client.write(request("shop.test"))
    assert (await client.read_reply()).status == 200


async def test_behind_a_proxy_header(scene, kind):
    trusted = {"proxy_protocol": True, "trusted": ("127.0.0.0/8",), "redirect_to_https": True}
    scene.listeners({**LISTENERS[kind], **trusted})
    client = await scene.client()
    header = b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 80\r\n"
    client.send_now(header) if kind == "h1" else client._sock.send(header)
    await client.write(request("shop.test"))
    assert (await client.read_reply()).status == 308
    assert scene.outcome.client == "203.0.113.9"
