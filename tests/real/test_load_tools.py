"""ab, wrk and h2load: none of them may report a request that failed, and kept connections are kept."""

import re

import pytest


def number(pattern, text):
    """The number that the tool reports after these words."""
    found = re.search(rf"{pattern}:?\s+(\d+)", text)
    assert found, f"no {pattern!r} in:\n{text}"
    return int(found[1])


async def ab(run, *args, requests):
    """Its report, when nothing in it is bad."""
    printed = (await run("ab", "-q", "-n", requests, "-c", 6, *args)).text
    assert number("Complete requests", printed) == requests, printed
    assert number("Failed requests", printed) == 0, printed
    assert not re.search(r"Non-2xx|Write errors|Exceptions", printed), printed
    return printed


async def test_ab_keeps_connections(node_site, run, scene):
    """They are HTTP/1.0 connections, kept because ab asks for it by name."""
    printed = await ab(run, "-k", f"{node_site.url}/bytes/20000", requests=600)
    assert number("Keep-Alive requests", printed) == 600
    assert number("HTML transferred", printed) == 600 * 20_000
    assert scene.snapshot.client_connections_accepted == 6


async def test_ab_and_responses_whose_length_nobody_knows(node_site, run, scene):
    """The end of the connection is their end: there is no chunked coding for HTTP/1.0."""
    printed = await ab(run, "-k", f"{node_site.url}/chunked/20000", requests=100)
    assert number("Keep-Alive requests", printed) == 0
    assert number("HTML transferred", printed) == 100 * 20_000
    assert scene.snapshot.links_opened <= 6


async def test_ab_without_kept_connections(node_site, run, scene):
    await ab(run, f"{node_site.url}/bytes/20000", requests=100)
    assert scene.snapshot.client_connections_accepted >= 100
    assert scene.snapshot.links_opened <= 6


async def test_ab_head_and_post(node_site, run, scene, tmp_path):
    printed = await ab(run, "-k", "-i", f"{node_site.url}/bytes/20000", requests=100)
    assert number("Keep-Alive requests", printed) == 100
    form = tmp_path / "form"
    form.write_bytes(b"a=1&" * 5000)
    args = ("-k", "-p", form, "-T", "application/x-www-form-urlencoded")
    printed = await ab(run, *args, f"{node_site.url}/sum", requests=100)
    assert number("Keep-Alive requests", printed) == 100
    assert {outcome.bytes_in for outcome in scene.outcomes[-100:]} == {20_000}


@pytest.mark.parametrize("path", ["bytes/20000", "chunked/20000"])
async def test_wrk(node_site, run, scene, path):
    printed = (await run("wrk", "-t", 1, "-c", 8, "-d", "1s", f"{node_site.url}/{path}")).text
    assert not re.search("Socket errors|Non-2xx", printed), printed
    requests = int(re.search(r"(\d+) requests in", printed)[1])
    assert requests > 8
    assert scene.snapshot.client_connections_accepted == 8 + 1  # wrk first looks whether anybody is there
    assert scene.snapshot.links_opened <= 8
    # At its end wrk leaves requests behind.
    fine = [outcome for outcome in scene.outcomes if outcome.cause == "ok"]
    assert requests <= len(fine) <= requests + 8
    assert {outcome.cause for outcome in scene.outcomes} <= {"ok", "client_gone"}


async def h2load(run, *args, requests):
    printed = (await run("h2load", "--h1", "-n", requests, "-c", 6, "-T", "20", *args)).text
    assert f"{requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout" in printed, printed
    assert f"{requests} 2xx, 0 3xx, 0 4xx, 0 5xx" in printed, printed
    return printed


@pytest.mark.parametrize("path", ["bytes/20000", "chunked/20000"])
async def test_h2load(node_site, run, scene, path):
    await h2load(run, f"{node_site.url}/{path}", requests=600)
    assert scene.snapshot.client_connections_accepted == 6
    assert scene.snapshot.links_opened <= 6


@pytest.mark.parametrize("path", ["bytes/20000", "chunked/20000"])
async def test_h2load_sends_eight_requests_ahead(node_site, run, scene, path):
    """Pipelining: one connection, answers in order."""
    await h2load(run, "-m", 8, f"{node_site.url}/{path}", requests=600)
    assert scene.snapshot.client_connections_accepted == 6
    assert (await node_site.told())["requests"] == 600


async def test_h2load_posts(node_site, run, scene, tmp_path):
    body = tmp_path / "body"
    body.write_bytes(b"x" * 30_000)
    await h2load(run, "-d", body, f"{node_site.url}/sum", requests=200)
    assert {outcome.bytes_in for outcome in scene.outcomes} == {30_000}
