"""nginx as a container that wants the certificate of the edge, and shows its own."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.real.conftest import serving
from tests.real.real_programs import HERE, Server, program
from tests.support.scene import Scene
from tests.support.tls_parts import ca, issue

TLS = """ssl;
        ssl_certificate @DIR@/site.pem;
        ssl_certificate_key @DIR@/site.key;
        ssl_protocols @VERSION@;
        ssl_client_certificate @DIR@/ca.pem;
        ssl_verify_client on;
        add_header X-Client $ssl_client_verify always;
        add_header X-Resumed $ssl_session_reused always;"""


@pytest.fixture(params=["TLSv1.2", "TLSv1.3"])
async def tls_site(
    scene: Scene, tmp_path: Path, docs: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Server]:
    nginx = program("nginx")
    ours, theirs = issue("edge.internal"), issue("site.containers.internal")
    files = {"ca.pem": ca().cert_pem.bytes(), "edge.pem": ours.chain, "edge.key": ours.key}
    for name, data in {**files, "site.pem": theirs.chain, "site.key": theirs.key}.items():
        (tmp_path / name).write_bytes(data)
    identity = {"ca": "ca.pem", "certificate": "edge.pem", "key": "edge.key"}
    scene.settings(backends={"tls": {name: str(tmp_path / file) for name, file in identity.items()}})

    def command(fd: int, port: int) -> list[str]:
        text = (HERE / "nginx_site.conf").read_text()
        text = text.replace("@PORT@;", f"@PORT@ {TLS}")
        user = "user root;" if os.geteuid() == 0 else ""
        marks = {"@DIR@": tmp_path, "@PORT@": port, "@USER@": user, "@VERSION@": request.param}
        for mark, value in marks.items():
            text = text.replace(mark, str(value))
        path = tmp_path / "nginx.conf"
        path.write_text(text)
        return ["env", f"NGINX={fd};", nginx, "-e", str(tmp_path / "nginx.log"), "-c", str(path)]

    server = Server.spawn("site", command, home=tmp_path)
    async with serving(scene, server):
        for route in scene.core.routes.values():
            route["backends"] = [{**server.answer, "tls": True}]
        yield server


async def test_nginx_that_wants_a_client_certificate(tls_site: Server, scene: Scene, docs: Path) -> None:
    noise = os.urandom(300_000)
    (docs / "noise.bin").write_bytes(noise)
    async with aiohttp.ClientSession(tls_site.url, timeout=aiohttp.ClientTimeout(total=100)) as session:
        for number in range(3):
            async with session.get("/noise.bin") as response:
                assert (response.status, await response.read()) == (200, noise)
                assert response.headers["X-Client"] == "SUCCESS"
            async with session.post("/small/", data=b"a=1") as response:
                assert (response.status, await response.text()) == (200, "small enough\n")
            async with session.get("/brief/noise.bin") as response:  # nginx closes the connection 50 ms later
                assert await response.read() == noise
            await scene.until(lambda: not scene.snapshot.links_idle)
            assert scene.snapshot.exchanges == 0, number
    tls = scene.worker.context.pool.tls
    assert tls is not None
    assert (tls.handshakes, tls.resumed, tls.wrong) == (3, 2, 0)


async def test_nginx_of_another_container(tls_site: Server, scene: Scene, tmp_path: Path) -> None:
    scene.route("other.test")["backends"] = [{**tls_site.answer, "id": "another", "tls": True}]
    reply = await scene.get("other.test")
    assert (reply.status, reply.error) == (502, "connect_failed")
    assert scene.attempts == ["wrong_backend"]
    assert not (tmp_path / "access.log").read_text()
