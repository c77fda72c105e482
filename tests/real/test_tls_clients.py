"""Real clients of TLS: openssl s_client, curl and requests, with versions, sessions and tricks of each."""

import asyncio
import re
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.scene import request
from tests.support.tls_parts import ca, issue

PAIR = issue("shop.test", "localhost")
ANN = issue("ann@staff.test")
Openssl = Callable[..., Awaitable[str]]


@pytest.fixture
async def port(scene: Any, tmp_path: Path) -> int:
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    (certificates / "shop.test.pem").write_bytes(PAIR.chain)
    (certificates / "shop.test.key").write_bytes(PAIR.key)
    (tmp_path / "ca.pem").write_bytes(ca().cert_pem.bytes())
    live = scene.backend()
    scene.route("shop.test", [live])
    scene.route("localhost", [live])
    (tmp_path / "ann.pem").write_bytes(ANN.chain + ANN.key)
    asked = {"tls": True, "client_ca": str(tmp_path / "ca.pem")}
    scene.listeners({"tls": True}, asked, {**asked, "verify_client": "optional"})
    scene.settings(tls={"certificates": f"file:{certificates}"})
    return int((await scene.edge()).ports[0])


async def talk(*command: object, parts: list[bytes]) -> str:
    """Run a program; write each part when it has answered the one before."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    said = b""
    try:
        async with asyncio.timeout(100):
            for part in parts:
                process.stdin.write(part)
                await process.stdin.drain()
                before = len(said)
                while b"hello" not in said[before:] and b"KEYUPDATE" not in said[before:]:
                    data = await process.stdout.read(65536)
                    if not data:
                        break
                    said += data
            process.stdin.close()
            said += await process.stdout.read()
    except TimeoutError:
        process.kill()
        raise AssertionError(said) from None
    await process.wait()
    return said.decode("latin-1")


def s_client(port: int, tmp_path: Path, *options: object) -> list[object]:
    address = ("-connect", f"127.0.0.1:{port}", "-servername", "shop.test")
    return ["openssl", "s_client", *address, "-CAfile", tmp_path / "ca.pem", "-verify_return_error", *options]


@pytest.mark.parametrize("version", ["1_2", "1_3"])
async def test_openssl_sees_a_good_connection(port: int, tmp_path: Path, version: str) -> None:
    said = await talk(
        *s_client(port, tmp_path, f"-tls{version}", "-alpn", "http/1.1"), parts=[request("shop.test")]
    )
    assert "Verify return code: 0 (ok)" in said
    assert "ALPN protocol: http/1.1" in said
    assert f"New, TLSv{version.replace('_', '.')}" in said
    assert "HTTP/1.1 200 " in said
    assert "Compression: NONE" in said


@pytest.mark.parametrize("version", ["1_2", "1_3"])
async def test_openssl_resumes_its_session(port: int, tmp_path: Path, version: str) -> None:
    session = tmp_path / "session"
    options = (f"-tls{version}", "-ign_eof")
    last = request("shop.test", headers=[("Connection", "close")])
    first = await talk(*s_client(port, tmp_path, *options, "-sess_out", session), parts=[last])
    again = await talk(*s_client(port, tmp_path, *options, "-sess_in", session), parts=[last])
    assert "New, TLS" in first
    assert "Reused, TLS" in again
    assert "hello" in again


@pytest.mark.parametrize("version", ["1", "1_1"])
async def test_old_versions_are_refused(port: int, tmp_path: Path, version: str, scene: Any) -> None:
    options = (f"-tls{version}", "-cipher", "ALL:@SECLEVEL=0")
    said = await talk(*s_client(port, tmp_path, *options), parts=[b""])
    assert "alert protocol version" in said
    assert scene.worker.context.tls.bios.is_empty


async def test_renegotiation_is_refused(port: int, tmp_path: Path, scene: Any) -> None:
    said = await talk(*s_client(port, tmp_path, "-tls1_2"), parts=[request("shop.test"), b"R\n"])
    assert "HTTP/1.1 200 " in said
    assert "RENEGOTIATING" in said
    assert re.search(r"no renegotiation|handshake failure", said)
    assert scene.worker.context.tls.bios.is_empty


async def test_keys_are_updated_by_either_side(port: int, tmp_path: Path) -> None:
    """`k`: ours; `K`: ours, and the edge's are asked for."""
    parts = [request("shop.test"), b"k\n", request("shop.test"), b"K\n", request("shop.test")]
    said = await talk(*s_client(port, tmp_path, "-tls1_3"), parts=parts)
    assert said.count("KEYUPDATE") == 2
    assert said.count("HTTP/1.1 200 ") == 3


async def curl(port: int, tmp_path: Path, *options: object) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *map(str, ("curl", "-sS", "--max-time", "20", "--noproxy", "*", "--cacert", tmp_path / "ca.pem")),
        *map(str, ("--resolve", f"shop.test:{port}:127.0.0.1", *options)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode or 0, said.decode()


async def test_curl_uses_a_connection_again(port: int, tmp_path: Path) -> None:
    url = f"https://shop.test:{port}/"
    code, said = await curl(port, tmp_path, "-w", "%{num_connects}/%{ssl_verify_result} ", url, url, url)
    assert (code, said) == (0, "hello1/0 hello0/0 hello0/0 ")


async def test_curl_uploads_and_closes(port: int, tmp_path: Path, scene: Any) -> None:
    (tmp_path / "body").write_bytes(b"x" * 3_000_000)
    url = f"https://shop.test:{port}/"
    code, said = await curl(port, tmp_path, "-T", tmp_path / "body", "-H", "Connection: close", url)
    assert (code, said) == (0, "hello")
    assert scene.backends[0].last.body == b"x" * 3_000_000


async def test_curl_is_told_that_plain_http_is_not_spoken_here(port: int, tmp_path: Path) -> None:
    code, said = await curl(port, tmp_path, "-w", "%{http_code}", "-o", "/dev/null", f"http://shop.test:{port}/")
    assert (code, said) == (0, "400")


async def test_requests(port: int, tmp_path: Path) -> None:
    def fetch() -> list[str]:
        with requests.Session() as session:
            session.trust_env = False
            session.verify = str(tmp_path / "ca.pem")
            return [session.get(f"https://localhost:{port}/", timeout=20).text for _ in range(3)]

    assert await asyncio.to_thread(fetch) == ["hello"] * 3


# certificates of clients


@pytest.mark.parametrize("version", ["1_2", "1_3"])
async def test_openssl_shows_its_certificate_and_resumes(
    port: int, tmp_path: Path, scene: Any, version: str
) -> None:
    asked, session = scene.worker.ports[1], tmp_path / "session"
    options = (f"-tls{version}", "-ign_eof", "-cert", tmp_path / "ann.pem")
    last = request("shop.test", headers=[("Connection", "close")])
    first = await talk(*s_client(asked, tmp_path, *options, "-sess_out", session), parts=[last])
    again = await talk(*s_client(asked, tmp_path, *options, "-sess_in", session), parts=[last])
    assert "HTTP/1.1 200 " in first
    assert "Reused, TLS" in again
    told = [got["x-client-cert-fingerprint"] for got in scene.backends[0].requests]
    assert len(told) == 2
    assert told[0] == told[1]
    elsewhere = await talk(*s_client(port, tmp_path, *options, "-sess_in", session), parts=[last])
    assert "New, TLS" in elsewhere, "a listener that asks for none does not resume it"
    assert "x-client-cert-fingerprint" not in scene.backends[0].last


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
async def test_curl_with_and_without_a_certificate(port: int, tmp_path: Path, scene: Any, protocol: str) -> None:
    _, required, optional = scene.worker.ports
    mine, forged = ("--cert", tmp_path / "ann.pem"), ("-H", "X-Client-Cert-Verify: SUCCESS")
    for where, more, verified in (
        (required, mine, b"SUCCESS"),
        (optional, mine, b"SUCCESS"),
        (optional, (), b"NONE"),
    ):
        code, said = await curl(where, tmp_path, protocol, *forged, *more, f"https://shop.test:{where}/")
        assert (code, said) == (0, "hello")
        assert scene.backends[0].last["x-client-cert-verify"] == verified
    served = len(scene.backends[0].requests)
    code, said = await curl(required, tmp_path, protocol, f"https://shop.test:{required}/")
    assert code in (35, 52, 55, 56, 16), said  # how it says so depends on when the alert comes
    assert len(scene.backends[0].requests) == served
