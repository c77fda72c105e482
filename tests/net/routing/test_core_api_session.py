"""The edge shows its certificate to the core API, and believes only the CA that is named."""

import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from edge.net.routing.core_api_session import core_api_session
from edge.net.secret_files import SecretFileError
from edge.net.tls.tls_contexts import load_pair
from edge.rules.settings import CoreApiSettings
from tests.support.tls_parts import ca, issue


def settings(directory: Path, **tls: str) -> CoreApiSettings:
    ours = issue("edge.internal")
    (directory / "ca.pem").write_bytes(ca().cert_pem.bytes())
    (directory / "edge.pem").write_bytes(ours.chain)
    (directory / "edge.key").write_bytes(ours.key)
    files = {"ca": "ca.pem", "certificate": "edge.pem", "key": "edge.key", **tls}
    paths = {name: str(directory / file) for name, file in files.items()}
    return CoreApiSettings.model_validate({"url": "https://localhost", "tls": paths})


async def test_both_sides_show_certificates(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    ca().configure_trust(context)
    load_pair(context, issue("localhost"))
    shown = []

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        shown.append(request.transport.get_extra_info("peercert")["subjectAltName"])
        return web.Response(text="yes")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "localhost", 0, ssl_context=context)
        await site.start()
        url = f"https://localhost:{runner.addresses[0][1]}/"
        timeout = aiohttp.ClientTimeout(total=20)
        async with core_api_session(settings(tmp_path), timeout) as session:
            assert await (await session.get(url)).text() == "yes"
        assert shown == [(("DNS", "edge.internal"),)]
        nothing = CoreApiSettings.model_validate({"url": "https://localhost"})
        async with core_api_session(nothing, timeout) as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(url)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("broken", [{"ca": "missing"}, {"key": "edge.pem"}, {"certificate": "edge.key"}])
async def test_files_that_are_no_good_are_told(tmp_path: Path, broken: dict[str, str]) -> None:
    with pytest.raises(SecretFileError, match=r"core_api\.tls"):
        core_api_session(settings(tmp_path, **broken), aiohttp.ClientTimeout(total=1))
