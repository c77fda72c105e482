"""Which hostnames a TLS connection may ask for, and what the access log says of it."""

import asyncio
import os
import ssl
import time
from functools import partial

import pytest

from edge.admin.metric_sources import EdgeState
from edge.admin.metrics_collector import MetricsCollector
from edge.admin.scoreboard import Scoreboard
from edge.net.certificates.certificate_files_reader import CertificateFiles
from edge.rules.route_sets.route_file_guard import RouteFileState
from edge.rules.routing.invalidation import StreamState
from edge.rules.tls.handshake_failures import NEVER
from edge.run import tls_setup
from tests.scenes.test_tls_backends import TlsContainers, half_then_closing, write_identity
from tests.support.h2_tls_client import H2TlsClient
from tests.support.scene import request
from tests.support.tls_client import TlsClient
from tests.support.tls_parts import TLS12, StubCertificate, StubCertificates, client_context, issue

NAMES = ("shop.test", "*.shop.test")
PAIR = issue(*NAMES)
PROTOCOLS = pytest.mark.parametrize(
    ("carrier", "protocol"), [(TlsClient, "http/1.1"), (H2TlsClient, "h2")], ids=["h1", "h2"]
)


async def begun(
    scene, *, http2: bool | None = None, alpn: tuple[str, ...] = ("h2", "http/1.1"), **tls: object
) -> None:
    scene.listeners({"tls": True} if http2 is None else {"tls": True, "http2": http2})
    scene.settings(tls=tls)
    backend = scene.backend()
    for name in ("shop.test", "a.shop.test", "other.test"):
        scene.route(name, [backend])
    certificates = StubCertificates()
    certificate = StubCertificate(PAIR, names=NAMES, alpn=alpn)
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
    assert scene.core.lookups.count("other.test") == 0, "no route is looked up"
    assert (scene.outcome.cause, scene.letters) == ("host_not_covered", "CP")


@PROTOCOLS
@pytest.mark.parametrize("name", [None, "stranger.test", "shop.test"])
async def test_with_the_default_certificate_every_host_is_served(scene, carrier, protocol, name):
    await begun(scene, default="shop.test")
    context = client_context(alpn=[protocol])
    context.check_hostname = False
    client = await carrier.of(scene, name, context=context)
    assert await answers(client, "other.test", "shop.test") == [200, 200]


@pytest.mark.parametrize("name", ["shop.test", "stranger.test"])
@pytest.mark.parametrize(("http2", "offered"), [(None, ["spdy/3"]), (None, ["acme-tls/1", "ftp"]), (False, ["h2"])])
async def test_a_client_of_other_protocols_is_told_so(scene, name, http2, offered):
    """RFC 7301, section 3.2. A client of another protocol must not take the edge for its server."""
    await begun(scene, http2=http2, default="shop.test")
    context = client_context(alpn=offered)
    context.check_hostname = False
    with pytest.raises(ssl.SSLError, match="no application protocol"):
        await TlsClient.of(scene, name, context=context)
    tls = scene.worker.context.tls
    assert (tls.alerts, tls.failures) == ({120: 1}, {"no_protocol": 1})
    assert len(tls.handshakes) == 0


@pytest.mark.parametrize("offered", [[], ["http/1.0"], ["spdy/3", "http/1.1"]])
async def test_a_client_of_any_http_1_is_served(scene, offered):
    await begun(scene)
    client = await TlsClient.of(scene, context=client_context(alpn=offered))
    assert await answers(client, "shop.test") == [200]


async def test_a_certificate_for_no_protocol_serves_all_clients(scene):
    await begun(scene, alpn=())
    client = await TlsClient.of(scene, context=client_context(alpn=["spdy/3"]))
    assert await answers(client, "shop.test") == [200]


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


# metrics


def samples(scene, name: str) -> dict[tuple[tuple[str, str], ...], float]:
    """The samples of a metric of the scene's worker, by labels without a value that is empty."""
    scene.worker.publish()
    board = Scoreboard(2)
    row = board.row(1)
    row.cells[:] = scene.worker.row.cells
    return {
        tuple(sorted((key, value) for key, value in sample.labels.items() if value)): sample.value
        for family in MetricsCollector(board, {}, lambda: EdgeState(StreamState(), RouteFileState(), 0.0)).collect()
        for sample in family.samples
        if sample.name == name and sample.value
    }


async def test_handshakes_are_counted(scene):
    await begun(scene)
    context = client_context()
    first = await TlsClient.of(scene, context=context)
    assert await answers(first, "shop.test") == [200]
    await TlsClient.of(scene, context=context, session=first.tls.session)
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await TlsClient.of(scene, "stranger.test")
    assert samples(scene, "styx_tls_handshakes_total") == {
        (("result", "ok"), ("resumed", "false"), ("version", "1.3")): 1,
        (("result", "ok"), ("resumed", "true"), ("version", "1.3")): 1,
        (("result", "absent"),): 1,
    }
    assert samples(scene, "styx_tls_handshake_seconds_count") == {(): 2}
    assert samples(scene, "styx_tls_contexts") == {(): 1}
    (await scene.edge()).context.tls.certificates.rejected["expired"] += 1
    assert samples(scene, "styx_certificates_rejected_total") == {(("reason", "expired"),): 1}


async def test_certificates_from_files_are_counted(scene, tmp_path):
    (tmp_path / "shop.test.pem").write_bytes(PAIR.chain + PAIR.key)
    scene.listeners({"tls": True})
    scene.settings(tls={"certificates": f"file:{tmp_path}"})
    await scene.edge()
    await TlsClient.of(scene)
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        await TlsClient.of(scene, "stranger.test")
    assert samples(scene, "styx_certificate_lookups_total") == {
        (("result", "fresh"),): 1,
        (("result", "absent"),): 1,
    }
    [ends] = samples(scene, "styx_certificate_soonest_not_after_timestamp_seconds").values()
    assert time.time() < ends < NEVER


async def test_a_directory_of_certificates_is_watched(scene, tmp_path, monkeypatch):
    """A new file is used at once, not at the next regular look."""
    monkeypatch.setattr(tls_setup, "CertificateFiles", partial(CertificateFiles, interval=3600.0))
    (tmp_path / "other.pem").write_bytes(PAIR.chain)
    os.utime(tmp_path / "other.pem", (1e9, 1e9))
    scene.listeners({"tls": True})
    scene.settings(tls={"certificates": f"file:{tmp_path}"})
    worker = await scene.edge()
    files = worker.context.tls.certificates
    await scene.until(lambda: files.looks > 0)
    async with asyncio.timeout(100):
        while files.find("shop.test") is None:
            (tmp_path / "shop.test.pem").write_bytes(PAIR.chain + PAIR.key)  # again: it may not be watched yet
            await asyncio.sleep(0.3)
    await TlsClient.of(scene)
    assert samples(scene, "styx_certificate_file_faults") == {(): 1}
    (tmp_path / "other.pem").unlink()
    await scene.until(lambda: files.faults == 0)


async def test_without_tls_there_is_no_end(scene):
    await scene.edge()
    assert samples(scene, "styx_certificate_soonest_not_after_timestamp_seconds") == {(): NEVER}
    assert samples(scene, "styx_tls_handshakes_total") == {}


async def test_handshakes_with_backends_are_counted(scene, tmp_path):
    scene.settings(backends={"tls": write_identity(tmp_path)})
    containers = TlsContainers(scene)
    busy = containers.container(half_then_closing)
    stranger = containers.container(certificate="another")
    scene.route("shop.test", [busy])
    first = await scene.client()
    await first.write(request("shop.test"))
    assert await first.read_some()
    for _ in range(2):
        assert (await scene.get("shop.test")).status == 200
    first.leave()
    scene.route("moved.test", [stranger])
    assert (await scene.get("moved.test")).status == 502
    odd = containers.container(version=TLS12)
    odd.tls.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # its key is another one
    scene.route("odd.test", [odd])
    assert (await scene.get("odd.test")).status == 502
    counted = samples(scene, "styx_backend_tls_handshakes_total")
    assert counted[(("result", "full"),)] == 1
    assert counted[(("result", "resumed"),)] == 2
    assert counted[(("result", "wrong_backend"),)] >= 1
    assert counted[(("result", "failed"),)] >= 1
