"""Which hostnames a TLS connection may ask for, and what the access log says of it."""

import pytest

from tests.support.h2_tls_client import H2TlsClient
from tests.support.scene import request
from tests.support.tls_client import TlsClient
from tests.support.tls_parts import StubCertificate, StubCertificates, client_context, issue

NAMES = ("shop.test", "*.shop.test")
PAIR = issue(*NAMES)
PROTOCOLS = pytest.mark.parametrize(
    ("carrier", "protocol"), [(TlsClient, "http/1.1"), (H2TlsClient, "h2")], ids=["h1", "h2"]
)


async def begun(scene, **tls: object) -> None:
    scene.listeners({"tls": True})
    scene.settings(tls=tls)
    backend = scene.backend()
    for name in ("shop.test", "a.shop.test", "other.test"):
        scene.route(name, [backend])
    certificates = StubCertificates()
    certificate = StubCertificate(PAIR, names=NAMES, alpn=("h2", "http/1.1"))
    certificates.ready = {"shop.test": certificate, "a.shop.test": certificate}
    (await scene.edge()).context.tls.certificates = certificates


async def answers(client, *hosts: str) -> list[int]:
    found = []
    for host in hosts:
        await client.write(request(host))
        found.append((await client.read_reply()).status)
    return found


@PROTOCOLS
async def test_421_for_what_the_certificate_does_not_cover(scene, carrier, protocol):
    await begun(scene)
    client = await carrier.of(scene, context=client_context(alpn=[protocol]))
    hosts = ("shop.test", "a.shop.test", "other.test", "a.shop.test", "b.a.shop.test", "shop.test")
    assert await answers(client, *hosts) == [200, 200, 421, 200, 421, 200], "the connection goes on"
    await client.write(request("other.test"))
    reply = await client.read_reply()
    assert (reply.status, reply.error) == (421, "host_not_covered")
    assert reply["cache-control"] == "no-store"
    assert scene.core.questions.count("other.test") == 0, "no route is looked up"
    assert (scene.outcome.cause, scene.letters) == ("host_not_covered", "CP")


@PROTOCOLS
@pytest.mark.parametrize("name", [None, "stranger.test", "shop.test"])
async def test_with_the_default_certificate_every_host_is_served(scene, carrier, protocol, name):
    await begun(scene, default="shop.test")
    context = client_context(alpn=[protocol])
    context.check_hostname = False
    client = await carrier.of(scene, name, context=context)
    assert await answers(client, "other.test", "shop.test") == [200, 200]


async def test_a_resumed_session_is_bound_to_its_own_name(scene):
    await begun(scene)
    context = client_context()
    first = await TlsClient.of(scene, context=context)
    assert await answers(first, "shop.test") == [200]
    second = await TlsClient.of(scene, "a.shop.test", context=context, session=first.tls.session)
    assert await answers(second, "a.shop.test", "other.test") == [200, 421]


@PROTOCOLS
async def test_the_access_log_names_version_resumption_and_name(scene, carrier, protocol):
    await begun(scene)
    context = client_context(alpn=[protocol])
    first = await carrier.of(scene, context=context)
    assert await answers(first, "shop.test") == [200]
    outcome = scene.outcome
    assert (outcome.tls, outcome.resumed, outcome.sni, outcome.protocol) == ("1.3", False, "shop.test", protocol)
    second = await carrier.of(scene, context=context, session=first.tls.session)
    assert await answers(second, "shop.test") == [200]
    assert scene.outcomes[-1].resumed
