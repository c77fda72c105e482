"""Client libraries before a site on Node: requests and aiohttp of Python, fetch and http of Node."""

import asyncio
import hashlib
import json
import random

import aiohttp
import pytest
import requests

from tests.real.real_programs import HERE

NOISE = random.Random(7).randbytes(3_000_000)
PIECES = [NOISE[at : at + 77_777] for at in range(0, len(NOISE), 77_777)]
TIMEOUT = 100.0


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# requests


async def requested(work):
    """What `work` finds out with a session, in a thread of its own."""

    def in_thread():
        with requests.Session() as session:
            session.trust_env = False
            return work(session)

    return await asyncio.to_thread(in_thread)


async def test_requests_on_one_connection(node_site, scene):
    def work(session):
        paths = ("bytes/70000", "chunked/70000", "status/204", "gzip", "redirect", "bytes/0")
        got = [session.get(f"{node_site.url}/{path}", timeout=TIMEOUT) for path in paths]
        got.append(session.head(f"{node_site.url}/bytes/70000", timeout=TIMEOUT))
        return got

    whole, chunked, empty, text, redirected, nothing, head = await requested(work)
    assert [sha256(got.content) == got.headers["X-Sha256"] for got in (whole, chunked, nothing)] == [True] * 3
    assert (empty.status_code, empty.content) == (204, b"")
    assert text.content == b"styx " * 20_000
    assert ([got.status_code for got in redirected.history], redirected.json()["url"]) == ([302], "/facts")
    assert (head.headers["Content-Length"], head.content) == ("70000", b"")
    assert scene.snapshot.client_connections_accepted == 1


@pytest.mark.parametrize("size", [0, 1, len(PIECES)])
async def test_requests_sends_a_generator(node_site, size):
    def work(session):
        return session.post(f"{node_site.url}/facts", data=iter(PIECES[:size]), timeout=TIMEOUT).json()

    told = await requested(work)
    assert told["headers"]["transfer-encoding"] == "chunked"
    assert told["sha256"] == sha256(b"".join(PIECES[:size]))


async def test_requests_sends_a_form_and_files(node_site):
    def work(session):
        form = session.post(f"{node_site.url}/facts", data={"a": "1", "b": "ü"}, timeout=TIMEOUT).json()
        files = session.put(f"{node_site.url}/facts", files={"noise": NOISE}, timeout=TIMEOUT).json()
        return form, files

    form, files = await requested(work)
    assert (form["method"], form["bytes"]) == ("POST", len("a=1&b=%C3%BC"))
    assert files["method"] == "PUT"
    assert files["bytes"] == int(files["headers"]["content-length"]) > len(NOISE)


async def test_requests_reads_a_stream(node_site):
    loop = asyncio.get_running_loop()

    def work(session):
        with session.get(f"{node_site.url}/events", stream=True, timeout=TIMEOUT) as got:
            lines = []
            for line in filter(None, got.iter_lines(chunk_size=1)):
                lines.append(line)
                word = "second" if line == b"data: first" else "end"
                asyncio.run_coroutine_threadsafe(node_site.next(word), loop).result(TIMEOUT)
            return lines

    assert await requested(work) == [b"data: first", b"data: second"]


# aiohttp


@pytest.fixture
async def session(node_site):
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    async with aiohttp.ClientSession(node_site.url, timeout=timeout) as session:
        yield session


async def test_aiohttp_on_one_connection(session, scene):
    for path in ("bytes/300000", "chunked/300000", "trailers", "bytes/0", "status/204", "hints", "gzip"):
        async with session.get(f"/{path}") as response:
            body = await response.read()
        if response.headers.get("Content-Encoding") == "gzip":
            assert body == b"styx " * 20_000
        elif "X-Sha256" in response.headers:
            assert response.headers["X-Sha256"] == sha256(body)
        assert response.status == (204 if path == "status/204" else 200)
    async with session.head("/bytes/300000") as response:
        assert (response.content_length, await response.read()) == (300_000, b"")
    assert scene.snapshot.client_connections_accepted == 1


@pytest.mark.parametrize("asking", [False, True], ids=["at once", "after 100"])
async def test_aiohttp_sends_pieces(node_site, session, asking):
    async def pieces():
        for piece in PIECES:
            yield piece

    async with session.put("/facts", data=pieces(), expect100=asking) as response:
        received = await response.json()
    assert (received["method"], received["sha256"]) == ("PUT", sha256(NOISE))
    assert received["headers"]["transfer-encoding"] == "chunked"
    # The edge asks by itself, too: a body that it cannot say twice.
    assert (await node_site.told())["continued"] >= asking


async def test_aiohttp_many_at_once(session, scene):
    async def fetched(size):
        async with session.get(f"/chunked/{size}") as response:
            return response.headers["X-Sha256"] == sha256(await response.read())

    assert all(await asyncio.gather(*[fetched(1000 * n) for n in range(60)]))
    assert scene.snapshot.client_connections_accepted <= 60


async def test_aiohttp_reads_a_stream(node_site, session):
    async with session.get("/events") as response:
        for word in ("first", "second", "third"):
            assert await response.content.readuntil(b"\n\n") == f"data: {word}\n\n".encode()
            await node_site.next({"first": "second", "second": "third"}.get(word, "end"))
        assert await response.read() == b""


# Node


@pytest.fixture
def node(node_site, start):
    """node(ACTION) -> Running, client.js at it."""

    async def started(action):
        return await start("node", HERE / "client.js", node_site.url, action)

    return started


@pytest.fixture
def node_told(node):
    """node_told(ACTION): all that client.js has told, when it is done."""

    async def told(action):
        return [json.loads(line) for line in (await (await node(action)).to_the_end()).text.splitlines()]

    return told


async def test_node_fetches_many_at_once(node_told):
    assert await node_told("many") == [[True] * 40]


async def test_node_fetch_streams_an_upload(node_told):
    [told] = await node_told("upload")
    assert (told["status"], told["got"]["bytes"]) == (200, 2_000_000)
    assert told["got"]["sha256"] == told["sent"]
    assert told["got"]["headers"]["transfer-encoding"] == "chunked"


async def test_node_fetch_streams_a_response(node_site, node):
    client = await node("download")
    for word in ("first", "second", "third"):
        assert json.loads(await client.line()) == f"data: {word}\n\n"
        await node_site.next({"first": "second", "second": "third"}.get(word, "end"))
    assert (await client.to_the_end()).text == '"the end"\n'


async def test_node_fetch_gives_up(node_site, node_told):
    assert await node_told("abort") == [200]
    await node_site.until_told(lambda seen: seen["left"] == 1)


async def test_node_trailers_both_ways(node_told):
    down, up = await node_told("trailers")
    assert down["announced"] == "X-Sum, X-Took"
    assert down["trailers"] == {"x-sum": down["sha256"], "x-took": "7 ms"}
    assert (up["bytes"], up["headers"]["trailer"]) == (7, "X-Sum")
    assert up["trailers"] == {"x-sum": "five words"}


async def test_node_hears_early_hints(node_told):
    hint = "</a.css>; rel=preload; as=style, </a.js>; rel=preload; as=script"
    assert await node_told("hints") == [{"heard": [[103, hint], [102, ""]], "status": 200, "text": "after hints"}]


async def test_node_waits_for_100(node_site, node_told):
    [told] = await node_told("expect")
    assert told["waited"] is True
    assert (told["got"]["bytes"], told["got"]["sha256"]) == (2_000_000, told["sent"])
    assert (await node_site.told())["continued"] == 1


async def test_node_keeps_its_connection(node_told, scene):
    assert await node_told("agent") == [[False] + [True] * 5]
    assert scene.snapshot.client_connections_accepted == 1
    assert scene.snapshot.links_opened == 1


async def test_node_upgrades_to_a_protocol_of_its_own(node_told, scene):
    """Raw bytes both ways, also those that came with the 101 and those after one side has ended."""
    switched, talked = await node_told("upgrade")
    assert switched == {"status": 101, "upgrade": "echo"}
    assert talked == {"first": "ready\n", "same": True, "last": "bye"}
    outcome = await scene.ended()
    assert (outcome.status, outcome.cause) == (101, "ok")
