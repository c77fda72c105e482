"""curl before a site on Node: what it sends arrives whole, what it gets is what the site has sent."""

import gzip
import hashlib
import json
import random
from dataclasses import dataclass
from typing import Any

import pytest

MIB = 1 << 20
NOISE = random.Random(6).randbytes(6 * MIB)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


@dataclass
class Curled:
    """What one request came to."""

    heads: list[dict[str, str]]
    "Interim answers, the response, and its trailers if there are any; the status line has no name."
    body: bytes
    facts: dict[str, Any]
    "What curl itself tells with --write-out."
    talk: str
    "What it tells with --verbose."

    @property
    def status(self):
        return self.facts["http_code"]

    @property
    def told(self):
        return json.loads(self.body)


def head_of(text):
    lines = [line.partition(":") for line in text.split("\r\n") if line]
    return {name.lower() if colon else "": (value if colon else name).strip() for name, colon, value in lines}


@pytest.fixture
def curl(run, tmp_path):
    """curl(url, *options) -> Curled."""

    async def curled(url, *options):
        head, body = tmp_path / "head", tmp_path / "body"
        body.unlink(missing_ok=True)
        ran = await run("curl", "-sSv", "-D", head, "-o", body, "-w", "%{json}", *options, url)
        heads = [head_of(text) for text in head.read_bytes().decode("latin-1").split("\r\n\r\n") if text]
        facts = json.loads(ran.text)
        return Curled(heads, body.read_bytes() if body.exists() else b"", facts, ran.err)

    return curled


@pytest.fixture
def noise_file(tmp_path):
    path = tmp_path / "noise"
    path.write_bytes(NOISE)
    return path


@pytest.mark.parametrize("version", ["1.1", "1.0"])
@pytest.mark.parametrize(
    "path", ["bytes/0", "bytes/5", "bytes/3000000", "chunked/3000000", "close_delimited/300000"]
)
async def test_responses_are_whole(node_site, curl, version, path):
    got = await curl(f"{node_site.url}/{path}", f"--http{version}")
    assert (got.status, len(got.body)) == (200, int(path.split("/")[1]))
    assert got.heads[-1]["x-sha256"] == sha256(got.body)
    if version == "1.0":
        assert "transfer-encoding" not in got.heads[-1]


async def test_gzip_is_not_touched(node_site, curl):
    raw = await curl(f"{node_site.url}/gzip", "-H", "Accept-Encoding: gzip")
    assert (raw.heads[-1]["content-encoding"], raw.heads[-1]["vary"]) == ("gzip", "Accept-Encoding")
    assert raw.heads[-1]["x-sha256"] == sha256(raw.body)
    text = await curl(f"{node_site.url}/gzip", "--compressed")
    assert text.body == gzip.decompress(raw.body) == b"styx " * 20_000


@pytest.mark.parametrize("code", [204, 304, 404, 500])
async def test_statuses_and_repeated_fields_pass(node_site, curl, code):
    got = await curl(f"{node_site.url}/status/{code}")
    assert (got.status, got.heads[-1]["etag"]) == (code, '"x"')
    assert got.talk.lower().count("< set-cookie: ") == 2
    assert got.body == (b"" if code in (204, 304) else f"status {code}\n".encode())


async def test_one_connection_for_all(node_site, run, scene, tmp_path):
    """Bodiless answers, too, leave it in order."""
    paths = ("bytes/70000", "status/204", "chunked/70000", "status/304", "bytes/0")
    urls = [f"{node_site.url}/{path}" for path in paths]
    told = ("-o", "/dev/null", "-w", "%{http_code} %{num_connects}\n")
    parts = [(*told, url) for url in urls] + [(*told, "-I", url) for url in urls] + [(*told, "-d", "a=1", urls[0])]
    ran = await run("curl", "-sS", *[word for part in parts for word in ("--next", "-sS", *part)][1:])
    statuses = ["200", "204", "200", "304", "200"]
    assert [line.split()[0] for line in ran.text.splitlines()] == [*statuses, *statuses, "200"]
    assert [line.split()[1] for line in ran.text.splitlines()] == ["1"] + ["0"] * 10
    assert scene.snapshot.client_connections_accepted == 1
    seen = await node_site.told()
    assert (seen["connections"], seen["requests"]) == (scene.snapshot.links_opened, 11)
    assert seen["connections"] == 1


async def test_many_at_once(node_site, run, scene):
    sizes = range(0, 60_000, 1000)
    told = [word for n in sizes for word in ("-o", "/dev/null", f"{node_site.url}/chunked/{n}")]
    ran = await run("curl", "-sS", "-Z", "--parallel-max", "12", "-w", "%{http_code} %{size_download}\n", *told)
    assert sorted(ran.text.splitlines()) == sorted(f"200 {n}" for n in sizes)
    assert scene.snapshot.client_connections_accepted <= 12


async def test_head(node_site, curl):
    got = await curl(f"{node_site.url}/bytes/70000", "-I")
    assert (got.status, got.heads[-1]["content-length"], got.facts["size_download"]) == (200, "70000", 0)


WAYS = {
    "plain": (),
    "chunked": ("-H", "Transfer-Encoding: chunked"),
    "without asking": ("-H", "Expect:"),
    "1.0": ("--http1.0",),
    "put": ("-X", "PUT"),
}


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("size", [0, 10, 50_000, len(NOISE)])
async def test_bodies_arrive_whole(node_site, curl, tmp_path, options, size):
    path = tmp_path / "some"
    path.write_bytes(NOISE[:size])
    got = await curl(f"{node_site.url}/facts", "--data-binary", f"@{path}", *options)
    assert got.status == 200
    assert got.told["method"] == ("PUT" if "PUT" in options else "POST")
    assert (got.told["bytes"], got.told["sha256"]) == (size, sha256(NOISE[:size]))
    chunked = "Transfer-Encoding: chunked" in options
    assert got.told["headers"].get("content-length") == (None if chunked else str(size))


async def test_an_upload_that_waits_for_100_continue(node_site, curl, noise_file):
    waits = ("-H", "Expect: 100-continue", "--expect100-timeout", "20")
    got = await curl(f"{node_site.url}/facts", "-T", noise_file, *waits)
    assert (got.status, got.told["method"], got.told["sha256"]) == (200, "PUT", sha256(NOISE))
    assert [head[""] for head in got.heads] == ["HTTP/1.1 100 Continue", "HTTP/1.1 200 OK"]
    assert (await node_site.told())["continued"] == 1


async def test_an_upload_that_is_refused_by_its_head(node_site, curl, noise_file):
    waits = ("-H", "Expect: 100-continue", "--expect100-timeout", "20")
    got = await curl(f"{node_site.url}/refused", "-T", noise_file, *waits)
    assert (got.status, got.body, got.facts["size_upload"]) == (413, b"too much\n", 0)
    assert len(got.heads) == 1


async def test_an_upload_that_is_refused_while_it_flows(node_site, start):
    """The response overtakes a body that never ends by itself."""
    options = ("-sSN", "-X", "POST", "-H", "Expect:", "-T", ".", "-w", "%{http_code}\n")
    client = await start("curl", *options, f"{node_site.url}/refused")
    client.say(b"x" * 1000)
    assert await client.line() == b"too much\n"
    assert await client.line() == b"413\n"


async def test_the_response_flows_while_the_body_does(node_site, start):
    client = await start("curl", "-sSN", "-X", "POST", "-H", "Expect:", "-T", ".", f"{node_site.url}/echo")
    for line in (b"one\n", b"two\n", b"three\n"):
        client.say(line)
        assert await client.line() == line
    client.said_all()
    assert (await client.to_the_end()).text == ""


async def test_server_sent_events_are_not_held_back(node_site, start):
    client = await start("curl", "-sSN", f"{node_site.url}/events")
    assert await client.line() == b"data: first\n"
    for word in (b"second", b"third"):
        assert await client.line() == b"\n"
        await node_site.next(word)
        assert await client.line() == b"data: %b\n" % word
    await node_site.next("end")
    assert (await client.to_the_end()).text == "\n"


async def test_a_long_poll(node_site, start):
    client = await start("curl", "-sS", f"{node_site.url}/poll")
    await node_site.until_told(lambda seen: seen["waiting"] == 1)
    await node_site.next("news")
    assert (await client.to_the_end()).text == "news"


async def test_a_client_that_leaves_is_missed(node_site, start, scene):
    client = await start("curl", "-sSN", f"{node_site.url}/events")
    assert await client.line() == b"data: first\n"
    await client.kill()
    await node_site.until_told(lambda seen: seen["left"] == 1)
    assert (await scene.ended()).cause == "client_gone"


async def test_trailers(node_site, curl):
    got = await curl(f"{node_site.url}/trailers", "-H", "TE: trailers")
    assert (len(got.body), got.heads[0]["trailer"]) == (50_000, "X-Sum, X-Took")
    assert got.heads[1:] == [{"x-sum": sha256(got.body), "x-took": "7 ms"}]
    old = await curl(f"{node_site.url}/trailers", "--http1.0")
    assert old.body == got.body
    assert len(old.heads) == 1


async def test_early_hints(node_site, curl):
    got = await curl(f"{node_site.url}/hints")
    lines = ["HTTP/1.1 103 Early Hints", "HTTP/1.1 102 Processing", "HTTP/1.1 200 OK"]
    assert [head[""] for head in got.heads] == lines
    assert got.heads[0]["link"].startswith("</a.css>; rel=preload")
    assert got.body == b"after hints"
    old = await curl(f"{node_site.url}/hints", "--http1.0")
    assert (len(old.heads), old.body) == (1, b"after hints")


async def test_redirects_are_the_clients_business(node_site, curl):
    got = await curl(f"{node_site.url}/redirect", "-L", "-d", "a=1")
    assert (got.status, got.told["method"], got.facts["num_redirects"]) == (200, "GET", 1)


async def test_an_offer_of_http2_is_not_passed_on(node_site, curl):
    got = await curl(f"{node_site.url}/facts", "--http2")
    assert "> Upgrade: h2c" in got.talk
    assert (got.status, got.facts["http_version"]) == (200, "1.1")
    assert not {"upgrade", "http2-settings"} & got.told["headers"].keys()


async def test_http2_without_asking_is_refused(node_site, run, curl):
    ran = await run("curl", "-sS", "--http2-prior-knowledge", f"{node_site.url}/facts")
    assert ran.code != 0
    assert (await curl(f"{node_site.url}/status/200")).status == 200
    assert (await node_site.told())["requests"] == 1


async def test_the_edge_as_a_forward_proxy(node_site, curl):
    """The target comes in absolute-form and goes on in origin-form; only to sites that the edge has."""
    there = ("--proxy", node_site.url)
    got = await curl("http://site.localhost/facts?a=1", *there, "-d", "a=1")
    assert "> POST http://site.localhost/facts?a=1 HTTP/1.1" in got.talk
    assert (got.told["url"], got.told["headers"]["host"], got.told["bytes"]) == ("/facts?a=1", "site.localhost", 3)
    assert "proxy-connection" not in got.told["headers"]
    assert (await curl("http://elsewhere.test/", *there)).heads[-1]["x-styx-error"] == "unknown_host"


async def test_a_tunnel_to_anywhere_is_refused(node_site, run):
    options = ("--proxytunnel", "--proxy", node_site.url, "-w", "%{http_connect}")
    ran = await run("curl", "-sS", *options, "http://site.localhost/facts")
    assert (ran.code, ran.out) == (56, b"501")


async def test_a_proxy_header_that_nobody_asked_for_is_refused(node_site, curl):
    got = await curl(f"{node_site.url}/facts", "--haproxy-protocol")
    assert (got.status, got.heads[-1]["x-styx-error"]) == (400, "bad_request")
    assert (await node_site.told())["requests"] == 0
