"""The small public key infrastructure of the pocket platform, and containers that speak TLS."""

import asyncio
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from edge.platform.pki import LIFETIME, PocketPki
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform
from tests.support.needs import CONTAINER_MAKES


def edge_context(pki: PocketPki, *, shows: bool = True) -> ssl.SSLContext:
    """Of the edge as the client of containers."""
    context = ssl.create_default_context(cafile=str(pki.container_ca))
    if shows:
        context.load_cert_chain(*pki.edge)
    return context


async def status_line(port: int, context: ssl.SSLContext, name: str) -> bytes:
    """Raises ssl.SSLError, also when the other side sees a fault of ours."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    writer.write(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
    try:
        return await reader.readline()
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("make", CONTAINER_MAKES)
async def test_containers_prove_who_they_are_and_ask_who_comes(make):
    async with asyncio.timeout(100), PocketPlatform(PlatformSpec(make=make, tls=True, notice=0.01)) as platform:
        await platform.create_environment("acme")
        [container] = platform.containers("acme")
        name = f"{container.spec.id}.containers.internal"
        assert (await status_line(container.port, edge_context(platform.pki), name)).startswith(b"HTTP/1.1 200")
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await status_line(container.port, edge_context(platform.pki), "other.containers.internal")
        try:
            nobody = await status_line(container.port, edge_context(platform.pki, shows=False), name)
        except (ssl.SSLError, ConnectionError):
            nobody = b""
        assert not nobody.startswith(b"HTTP/1.1 200")


async def test_certificates_of_hostnames(http):
    async with asyncio.timeout(100), PocketPlatform(PlatformSpec(tls=True, notice=0.01)) as platform:
        await platform.create_environment("acme")
        url = f"{platform.core_api_url}/v1/certificates/live-acme.localhost"
        async with http.get(url) as response:
            assert response.status == 200
            document, tag = await response.json(), response.headers["ETag"]
        assert document["names"] == ["live-acme.localhost"]
        leaf = x509.load_pem_x509_certificate(document["certificates"][0]["chain"].encode())
        authority = x509.load_pem_x509_certificate(platform.pki.site_ca.read_bytes())
        leaf.verify_directly_issued_by(authority)
        assert leaf.not_valid_after_utc - datetime.now(UTC) > LIFETIME - timedelta(minutes=1)
        async with http.get(url, headers={"If-None-Match": tag}) as response:
            assert response.status == 304, "it is issued once"
        async with http.get(url.replace("acme", "nobody")) as response:
            assert response.status == 404
        async with http.get(f"{platform.core_api_url}/v1/routes/live-acme.localhost") as response:
            assert [backend["tls"] for backend in (await response.json())["backends"]] == [True]


async def test_without_tls_there_are_none(platform, http):
    await platform.create_environment("acme")
    async with http.get(f"{platform.core_api_url}/v1/certificates/live-acme.localhost") as response:
        assert response.status == 404
    assert platform.pki is None


def test_keys_are_for_their_owner_only(tmp_path: Path):
    pki = PocketPki(tmp_path / "pki")
    pki.write()
    pki.for_container("b7c1")
    assert {path.name for path in pki.directory.iterdir() if path.stat().st_mode & 0o077} == {
        "ca.pem",
        "containers-ca.pem",
        "edge.pem",
        "b7c1.pem",
    }
    assert pki.directory.stat().st_mode & 0o077 == 0
    sites, containers = pki.site_ca.read_bytes(), pki.container_ca.read_bytes()
    assert sites != containers, "the owner of a site cannot pass for a container"
