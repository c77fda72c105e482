"""Responses of the core API over HTTP."""

import json

import aiohttp
import pytest

from edge.platform.pocket_platform import PlatformSpec, PocketPlatform
from edge.platform.route_api import CacheControl


def route_url(platform, hostname):
    return f"{platform.core_api_url}/v1/routes/{hostname}"


async def test_a_route_follows_the_contract(platform, http):
    made = await platform.create_environment("acme", hostnames=["live-acme.example.org"], containers=1, standby=1)
    async with http.get(route_url(platform, "live-acme.example.org")) as response:
        assert response.status == 200
        assert response.headers["Cache-Control"] == ("max-age=60, stale-while-revalidate=600, stale-if-error=86400")
        assert response.headers["ETag"].startswith('"')
        body = await response.json()
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
    async with http.get(url) as response:
        tag = response.headers["ETag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        async with http.get(url, headers={"If-None-Match": known}) as response:
            assert response.status == 304
            assert response.headers["ETag"] == tag
            assert response.headers["Cache-Control"].startswith("max-age=60")
            assert await response.read() == b""
    await platform.set_goal("acme", containers=2)
    async with http.get(url, headers={"If-None-Match": tag}) as response:
        assert response.status == 200
        assert response.headers["ETag"] != tag


async def test_unknown_hostname_is_404_for_ten_seconds(platform, http):
    async with http.get(route_url(platform, "nobody.example")) as response:
        assert response.status == 404
        assert response.headers["Cache-Control"] == "max-age=10"
        assert "nobody.example" in (await response.json())["error"]


@pytest.mark.parametrize("hostname", ["a..b", "-a.b", "a.b.", "a%20b", "a:80", "a" * 64, "a." * 127 + "aa", "ä.de"])
async def test_impossible_hostname_is_400(platform, http, hostname):
    async with http.get(route_url(platform, hostname)) as response:
        assert response.status == 400
        assert (await response.json())["error"]


async def test_hostname_is_looked_up_in_any_case_and_counted(platform, http):
    await platform.create_environment("acme")
    for hostname in ("LIVE-acme.LocalHost", "live-acme.localhost", "xn--bcher-kva.example"):
        async with http.get(route_url(platform, hostname)) as response:
            await response.read()
    assert platform.lookups == {"live-acme.localhost": 2, "xn--bcher-kva.example": 1}
    assert platform.lookups.total() == 3


async def test_token_is_required(http):
    async with PocketPlatform(PlatformSpec(token="secret", freshness=CacheControl(max_age=1))) as platform:
        await platform.create_environment("acme", service_time=0)
        url = route_url(platform, "live-acme.localhost")
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            async with http.get(url, headers=headers) as response:
                assert response.status == 401
                assert response.headers["WWW-Authenticate"] == "Bearer"
        async with http.get(url, headers={"Authorization": "Bearer secret"}) as response:
            assert response.status == 200
            assert response.headers["Cache-Control"].startswith("max-age=1,")


async def test_core_api_can_stop_and_restart_on_its_port(platform, http, ask):
    await platform.create_environment("acme")
    url = route_url(platform, "live-acme.localhost")
    await platform.stop_core_api()
    with pytest.raises(aiohttp.ClientConnectorError):
        await http.get(url)
    assert (await ask(platform.containers("acme")[0].port)).status == 200
    await platform.start_core_api()
    async with http.get(url) as response:
        assert json.loads(await response.read())["site"] == "acme"
