"""curl, nghttp, h2load and httpx over HTTP/2 with prior knowledge."""

import re

import httpx
import pytest

from tests.support.scene import MIB, chunked, head_of

BODY = bytes(range(256)) * 4096


@pytest.fixture
async def port(scene):
    """The port of an edge before a backend that sends a body, one that echoes, and one with trailers."""
    scene.listeners({"http2": True})
    # Clients, edge and backends share this process: with 300 MB on the way, its loop has no time for long.
    scene.settings(timeouts={"connect_alone": "60s", "connect_total": "60s"})

    async def echo(wire, got):
        await wire.body(got)
        await wire.send(head_of(200, [("Content-Length", str(len(got.body)))]) + got.body)

    async def trailing(wire, got):
        answer = chunked(b"hello")[:-2] + b"X-Sum: 1\r\n\r\n"
        await wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        await wire.send(head_of(200, [("Transfer-Encoding", "chunked")]) + answer)

    scene.route("shop.test", [scene.backend(body=BODY)])
    scene.route("echo.test", [scene.scripted(echo)])
    scene.route("trailers.test", [scene.scripted(trailing)])
    return (await scene.edge()).ports[0]


async def test_curl(port, run, tmp_path):
    options = ("--silent", "--show-error", "--http2-prior-knowledge", "--connect-to", f"::127.0.0.1:{port}")
    got = await run(
        "curl",
        *options,
        "--output",
        tmp_path / "body",
        "--write-out",
        "%{http_code} %{http_version}",
        "http://shop.test/",
    )
    assert got.text.strip() == "200 2"
    assert (tmp_path / "body").read_bytes() == BODY
    (tmp_path / "upload").write_bytes(BODY * 5)
    await run(
        "curl",
        *options,
        "--data-binary",
        f"@{tmp_path / 'upload'}",
        "--output",
        tmp_path / "body",
        "http://echo.test/",
    )
    assert (tmp_path / "body").read_bytes() == BODY * 5
    got = await run("curl", *options, "--include", "http://trailers.test/")
    assert re.search(r"HTTP/2 103.*HTTP/2 200.*hello", got.text, re.DOTALL), got.text
    got = await run("curl", *options, "--head", "http://shop.test/")
    assert f"content-length: {len(BODY)}" in got.text


async def test_nghttp(port, run):
    got = await run(
        "nghttp", "--stat", "--null-out", "--multiply=20", f"http://127.0.0.1:{port}/", "-H:authority: shop.test"
    )
    assert got.text.count(" 200 ") == 20, got.text


@pytest.mark.parametrize("streams", [1, 10, 100])
async def test_h2load(port, run, scene, streams):
    got = await run(
        "h2load", "-n", 300, "-c", 3, "-m", streams, f"http://127.0.0.1:{port}/", "-H:authority: shop.test"
    )
    assert "300 succeeded, 0 failed, 0 errored" in got.text, got.text
    assert f"{300 * len(BODY)}" in got.text or f"{300 * len(BODY) / (1 << 20):.0f}" in got.text
    assert scene.worker.context.h2.streams == 300
    assert scene.worker.context.h2.resets == 0


async def test_httpx(port):
    headers = {"Host": "echo.test"}
    async with httpx.AsyncClient(http1=False, http2=True, timeout=30) as client:
        for size in (0, 1, MIB):
            response = await client.post(f"http://127.0.0.1:{port}/", headers=headers, content=b"x" * size)
            assert (response.status_code, response.http_version) == (200, "HTTP/2")
            assert response.content == b"x" * size

        async def pieces():
            for _ in range(10):
                yield b"abc"

        response = await client.post(f"http://127.0.0.1:{port}/", headers=headers, content=pieces())
        assert response.content == b"abc" * 10
        response = await client.get(f"http://127.0.0.1:{port}/", headers={"Host": "nobody.test"})
        assert (response.status_code, response.headers["x-styx-error"]) == (404, "unknown_host")
