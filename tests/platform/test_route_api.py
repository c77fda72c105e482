"""Core API answers over HTTP."""

import json

import aiohttp
import pytest

from edge.platform.pocket_platform import PlatformSpec, PocketPlatform
from edge.platform.route_api import CacheLifetimes


def route_url(platform, hostname):
    return f"{platform.core_api_url}/v1/routes/{hostname}"


async def test_route_answer_is_the_contract(platform, http):
    made = await platform.create_environment("acme", hostnames=["live-acme.example.org"], containers=1, standby=1)
    async with http.get(route_url(platform, "live-acme.example.org")) as answer:
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == ("max-age=60, stale-while-revalidate=600, stale-if-error=86400")
        assert answer.headers["ETag"].startswith('"')
        body = await answer.json()
    active, standby = platform.containers("acme")
    assert body == {
        "hostname": "live-acme.example.org",
        "site": "acme",
        "environment": "live",
        "generation": made.generation,
        "maintenance": False,
        "redirect": None,
        "backends": [
            {
                "id": container.spec.id,
                "address": "127.0.0.1",
                "port": container.port,
                "server": server,
                "role": role,
                "state": "running",
            }
            for container, role, server in ((active, "active", "srv-1"), (standby, "standby", "srv-2"))
        ],
    }


async def test_304_until_something_changes(platform, http):
    await platform.create_environment("acme")
    url = route_url(platform, "live-acme.localhost")
    async with http.get(url) as answer:
        tag = answer.headers["ETag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        async with http.get(url, headers={"If-None-Match": known}) as answer:
            assert answer.status == 304
            assert answer.headers["ETag"] == tag
            assert answer.headers["Cache-Control"].startswith("max-age=60")
            assert await answer.read() == b""
    await platform.set_goal("acme", containers=2)
    async with http.get(url, headers={"If-None-Match": tag}) as answer:
        assert answer.status == 200
        assert answer.headers["ETag"] != tag


async def test_unknown_hostname_is_404_for_ten_seconds(platform, http):
    async with http.get(route_url(platform, "nobody.example")) as answer:
        assert answer.status == 404
        assert answer.headers["Cache-Control"] == "max-age=10"
        assert "nobody.example" in (await answer.json())["error"]


@pytest.mark.parametrize("hostname", ["a..b", "-a.b", "a.b.", "a%20b", "a:80", "a" * 64, "a." * 127 + "aa", "ä.de"])
async def test_impossible_hostname_is_400(platform, http, hostname):
    async with http.get(route_url(platform, hostname)) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]


async def test_hostname_is_asked_in_any_case_and_counted(platform, http):
    await platform.create_environment("acme")
    for hostname in ("LIVE-acme.LocalHost", "live-acme.localhost", "xn--bcher-kva.example"):
        async with http.get(route_url(platform, hostname)) as answer:
            await answer.read()
    assert platform.questions == {"live-acme.localhost": 2, "xn--bcher-kva.example": 1}
    assert platform.questions.total() == 3


async def test_token_is_asked_for(http):
    async with PocketPlatform(PlatformSpec(token="secret", freshness=CacheLifetimes(max_age=1))) as platform:
        await platform.create_environment("acme", service_time=0)
        url = route_url(platform, "live-acme.localhost")
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            async with http.get(url, headers=headers) as answer:
                assert answer.status == 401
                assert answer.headers["WWW-Authenticate"] == "Bearer"
        async with http.get(url, headers={"Authorization": "Bearer secret"}) as answer:
            assert answer.status == 200
            assert answer.headers["Cache-Control"].startswith("max-age=1,")


async def test_core_api_can_be_gone_and_come_back_on_its_port(platform, http, ask):
    await platform.create_environment("acme")
    url = route_url(platform, "live-acme.localhost")
    await platform.stop_core_api()
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(url)
    assert (await ask(platform.containers("acme")[0].port)).status == 200
    await platform.start_core_api()
    async with http.get(url) as answer:
        assert json.loads(await answer.read())["site"] == "acme"
