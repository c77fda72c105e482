"""The edge shows its certificate to the core API, and believes only the CA that is named."""

import asyncio
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from edge.net.routing.core_api_session import SessionHolder, core_api_session
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
        timeout = aiohttp.ClientTimeout(total=100)
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
async def test_files_that_are_no_good_are_reported(tmp_path: Path, broken: dict[str, str]) -> None:
    with pytest.raises(SecretFileError, match=r"core_api\.tls"):
        core_api_session(settings(tmp_path, **broken), aiohttp.ClientTimeout(total=1))


async def test_a_session_is_replaced_when_its_files_are_good(tmp_path: Path) -> None:
    """A certificate and its key are two files, so for a moment they do not fit: nothing is asked with neither."""
    now = settings(tmp_path)
    holder = SessionHolder(now)
    before = holder.open()
    (tmp_path / "edge.key").write_bytes(issue("edge.internal").key)
    holder.renew(now)
    assert holder.open() is before
    settings(tmp_path)
    holder.renew(now)
    after = holder.open()
    assert after is not before
    assert not before.closed, "requests in flight end with it"
    await holder.close()
    assert (before.closed, after.closed) == (True, True)


async def test_a_session_of_another_core_api_is_not_kept(tmp_path: Path) -> None:
    now = settings(tmp_path)
    holder = SessionHolder(now)
    holder.open()
    (tmp_path / "edge.key").unlink()
    holder.renew(now.model_copy(update={"url": "https://other.internal"}))
    with pytest.raises(SecretFileError):
        holder.open()
    await holder.close()


async def test_a_replaced_session_is_closed_after_the_timeout(tmp_path: Path) -> None:
    now = settings(tmp_path).model_copy(update={"timeout": 0.01})
    holder = SessionHolder(now)
    before = holder.open()
    holder.renew(now)
    async with asyncio.timeout(100):
        while not before.closed:  # noqa: ASYNC110 - aiohttp rings no bell
            await asyncio.sleep(0.001)
    await holder.close()
