"""Backends as sites really have them: nginx with its static files, Node, an application on uvicorn."""

import asyncio
import gzip
import hashlib
import io
import os
import random

import aiohttp
import pytest

NOISE = random.Random(9).randbytes(2_000_000)
TIMEOUT = aiohttp.ClientTimeout(total=100)
NO_TOUCH = {"auto_decompress": False, "timeout": TIMEOUT}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
async def files(docs):
    """Documents of nginx, all of the same age."""
    (docs / "noise.bin").write_bytes(NOISE)
    (docs / "page.txt").write_text("a page\n")
    (docs / "style.css").write_text("a { color: red }\n" * 5000)
    for path in docs.iterdir():
        os.utime(path, (1_700_000_000, 1_700_000_000))


@pytest.fixture
async def nginx(files, nginx_site, scene):
    """A client of the edge that has nginx behind it."""
    async with aiohttp.ClientSession(nginx_site.url, **NO_TOUCH) as session:
        yield session


@pytest.fixture
def ways(tmp_path):
    """ways(n): the first n requests that nginx has seen, as lists of words, when they are in its log."""

    async def seen(count):
        log = tmp_path / "access.log"
        async with asyncio.timeout(100):
            while len(lines := log.read_text().splitlines()) < count:  # noqa: ASYNC110 - nginx rings no bell
                await asyncio.sleep(0.005)
        return [line.split() for line in lines]

    return seen


# nginx


async def test_nginx_serves_files(nginx):
    for path, body in (("noise.bin", NOISE), ("page.txt", b"a page\n")):
        async with nginx.get(f"/{path}") as response:
            assert (response.status, response.content_length) == (200, len(body))
            assert await response.read() == body
        async with nginx.head(f"/{path}") as response:
            assert (response.status, response.content_length, await response.read()) == (200, len(body), b"")
    async with nginx.get("/missing") as response:
        assert response.status == 404
        assert "X-Styx-Error" not in response.headers
    async with nginx.post("/page.txt", data=b"a=1") as response:
        assert response.status == 405


async def test_nginx_serves_ranges(nginx):
    for said, part in (
        ("bytes=0-99", slice(0, 100)),
        ("bytes=1000000-1500000", slice(1_000_000, 1_500_001)),
        ("bytes=-5", slice(-5, None)),
    ):
        async with nginx.get("/noise.bin", headers={"Range": said}) as response:
            assert (response.status, await response.read()) == (206, NOISE[part])
            assert response.headers["Content-Range"].endswith(f"/{len(NOISE)}")
    async with nginx.get("/noise.bin", headers={"Range": "bytes=0-9,20-29"}) as response:
        kind, body = response.headers["Content-Type"], await response.read()
        assert (response.status, kind.split(";")[0]) == (206, "multipart/byteranges")
        assert NOISE[:10] in body
        assert NOISE[20:30] in body
    async with nginx.get("/noise.bin", headers={"Range": "bytes=9000000-"}) as response:
        assert (response.status, response.headers["Content-Range"]) == (416, f"bytes */{len(NOISE)}")


async def test_nginx_is_asked_what_has_changed(nginx, scene):
    async with nginx.get("/page.txt") as response:
        tag, date = response.headers["ETag"], response.headers["Last-Modified"]
    for asked in ({"If-None-Match": tag}, {"If-Modified-Since": date}):
        for method in ("GET", "HEAD"):
            async with nginx.request(method, "/page.txt", headers=asked) as response:
                assert (response.status, response.headers["ETag"], await response.read()) == (304, tag, b"")
    async with nginx.get("/page.txt", headers={"If-None-Match": '"another"'}) as response:
        assert (response.status, await response.read()) == (200, b"a page\n")
    assert scene.snapshot.links_opened == 1


async def test_nginx_compresses(nginx):
    async with nginx.get("/style.css", headers={"Accept-Encoding": "gzip"}) as response:
        assert (response.status, response.headers["Content-Encoding"]) == (200, "gzip")
        assert "Content-Length" not in response.headers
        packed = await response.read()
    async with nginx.get("/style.css", headers={"Accept-Encoding": "identity"}) as response:
        plain = await response.read()
    assert gzip.decompress(packed) == plain == b"a { color: red }\n" * 5000


async def test_nginx_keeps_connections(nginx, ways, scene):
    for _ in range(30):
        async with nginx.get("/page.txt") as response:
            assert await response.read() == b"a page\n"
    assert len({connection for connection, *_ in await ways(30)}) == 1
    assert scene.snapshot.links_opened == 1


async def test_nginx_ends_a_connection_after_seven_requests(nginx, ways, scene):
    """It says so with the seventh answer; nobody notices."""

    async def asked(number):
        method, body = ("POST", b"a=1") if number % 3 == 0 else ("GET", None)
        async with nginx.request(method, "/few/page.txt", data=body) as response:
            return response.status

    statuses = [await asked(number) for number in range(42)]
    assert statuses == [405, 200, 200] * 14
    assert len({connection for connection, *_ in await ways(42)}) == 6
    assert await asyncio.gather(*[asked(number) for number in range(1, 201)]) == ([200, 200, 405] * 67)[:200]
    assert {outcome.cause for outcome in scene.outcomes} == {"ok"}


async def test_nginx_ends_idle_connections(nginx, scene):
    """It does not say so before; the edge sees it and opens another one."""
    for count in (1, 2, 3):
        async with nginx.post("/brief/page.txt", data=b"a=1") as response:
            assert response.status == 405
        await scene.until(lambda: scene.snapshot.links_busy + scene.snapshot.links_idle == 0)
        assert scene.snapshot.links_opened == count


async def test_nginx_refuses_a_body_by_its_size(nginx, scene):
    async with nginx.post("/small/", data=b"x" * 1024) as response:
        assert (response.status, await response.text()) == (200, "small enough\n")
    async with nginx.post("/small/", data=io.BytesIO(NOISE)) as response:
        assert response.status == 413
        assert "X-Styx-Error" not in response.headers


async def test_nginx_redirects_to_itself(nginx):
    """`Location` has the host that the client asked for, not that of nginx."""
    async with nginx.get("/old/", headers={"Host": "site.localhost"}, allow_redirects=False) as response:
        host = response.headers["Location"].split("/")[2].split(":")[0]
        assert (response.status, host) == (301, "site.localhost")


# Node


@pytest.fixture
async def node(node_site):
    """A client of the edge that has Node behind it."""
    async with aiohttp.ClientSession(node_site.url, **NO_TOUCH) as session:
        yield session


async def test_node_receives_who_asks(node, node_site):
    fields = {"X-Forwarded-For": "203.0.113.9", "X_Forwarded_For": "203.0.113.9", "X-Styx-Backend": "other"}
    async with node.get("/facts", headers={**fields, "Connection": "X-Mine", "X-Mine": "1"}) as response:
        received = (await response.json())["headers"]
    assert received["host"] == f"127.0.0.1:{node_site.edge}"
    assert (received["x-forwarded-for"], received["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert (received["x-styx-backend"], received["x-styx-attempt"], received["via"]) == ("node", "1", "1.1 styx")
    assert not {"x_forwarded_for", "x-mine"} & received.keys()


async def test_node_closes_after_a_response(node, scene):
    for _ in range(3):
        async with node.get("/closing") as response:
            assert await response.text() == "bye"
            assert response.headers.get("Connection", "") == ""
    assert (scene.snapshot.links_opened, scene.snapshot.links_busy, scene.snapshot.links_idle) == (3, 0, 0)
    assert scene.snapshot.client_connections_accepted == 1


async def test_node_ends_a_response_with_its_connection(node, scene):
    for _ in range(3):
        async with node.get("/close_delimited/100000") as response:
            body = await response.read()
            assert (len(body), response.headers["X-Sha256"]) == (100_000, sha256(body))
            assert response.headers["Transfer-Encoding"] == "chunked"
    assert scene.snapshot.client_connections_accepted == 1


# uvicorn


@pytest.fixture
async def asgi(asgi_site):
    """A client of the edge that has uvicorn behind it."""
    async with aiohttp.ClientSession(asgi_site.url, **NO_TOUCH) as session:
        yield session


async def pieces():
    for at in range(0, len(NOISE), 50_000):
        yield NOISE[at : at + 50_000]


@pytest.mark.parametrize("fields", [{}, {"Expect": "100-continue"}], ids=["at once", "after 100"])
async def test_uvicorn_takes_bodies(asgi, fields):
    for data, body in ((io.BytesIO(NOISE), NOISE), (pieces(), NOISE), (b"", b"")):
        async with asgi.post("/facts", data=data, headers=fields) as response:
            assert (await response.json())["sha256"] == sha256(body)


@pytest.mark.parametrize("size", [1, len(NOISE)])
async def test_uvicorn_responds_before_it_reads(asgi, size):
    async with asgi.put("/echo", data=io.BytesIO(NOISE[:size])) as response:
        assert await response.read() == NOISE[:size]


async def test_uvicorn_knows_the_client(asgi):
    """It believes X-Forwarded-*, as it is told to."""
    async with asgi.get("/facts", headers={"X-Forwarded-Proto": "https"}) as response:
        received = await response.json()
    assert (received["scheme"], received["client"][0], received["http_version"]) == ("http", "127.0.0.1", "1.1")


async def test_uvicorn_streams(asgi, scene):
    for _ in range(2):
        async with asgi.get("/stream") as response:
            assert await response.read() == b"".join(bytes([n]) * 1000 for n in range(200))
        async with asgi.head("/stream") as response:
            assert (response.status, await response.read()) == (200, b"")
    assert scene.snapshot.links_opened == 1


async def test_uvicorn_sends_events(asgi, asgi_site):
    async with asgi.get("/said") as response:
        for word in ("first", "second", "third"):
            assert await response.content.readuntil(b"\n\n") == f"data: {word}\n\n".encode()
            await asgi_site.next({"first": "second", "second": "third"}.get(word, "end"))
        assert await response.read() == b""


async def test_uvicorn_responds_304(asgi, asgi_site):
    for _ in range(2):
        async with asgi.get("/cached", headers={"If-None-Match": '"v1"'}) as response:
            assert (response.status, response.headers["ETag"], await response.read()) == (304, '"v1"', b"")
    async with asgi.get("/cached") as response:
        assert await response.read() == b"cached text"
    assert (await asgi_site.told())["not_modified"] == 2
