"""The client of the core API against a real server."""

import json
from collections.abc import AsyncIterator

import pytest

from edge.net.routing.core_api import CoreApi, CoreApiError
from edge.rules.settings import CoreApiSettings
from tests.support.scene_core_api import LONG, ScriptedCoreApi

ROUTE = {
    "hostname": "a.test",
    "site": "acme",
    "environment": "live",
    "generation": 7,
    "backends": [
        {"id": "b1", "address": "fd00::7", "port": 1, "server": "s", "role": "standby", "state": "asleep"}
    ],
    "maintenance": False,
    "redirect": None,
    "something": {"new": [1, 2, 3]},
}


@pytest.fixture
async def core() -> AsyncIterator[ScriptedCoreApi]:
    core = ScriptedCoreApi()
    core.routes["a.test"] = ROUTE
    await core.start()
    yield core
    await core.stop()


class Asked:
    def __init__(self, core, **settings):
        self.observed = []
        self.api = CoreApi(
            CoreApiSettings(url=core.url, **settings), lambda *observation: self.observed.append(observation)
        )

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.api.close()


async def test_a_route(core):
    async with Asked(core) as asked:
        result = await asked.api.ask("a.test", None)
    assert (result.route.site, result.route.environment, result.route.generation) == ("acme", "live", 7)
    [backend] = result.route.backends
    assert (backend.id, backend.address, backend.role, backend.state) == ("b1", "fd00::7", "standby", "asleep")
    assert result.cache_control == LONG
    assert not result.not_modified
    assert [result for result, _ in asked.observed] == ["route"]
    assert asked.api.up


async def test_etag_and_not_modified(core):
    core.etags = True
    async with Asked(core) as asked:
        first = await asked.api.ask("a.test", None)
        assert first.etag == '"7"'
        second = await asked.api.ask("a.test", first.etag)
    assert (second.route, second.not_modified, second.etag) == (None, True, '"7"')
    assert second.cache_control == LONG
    assert [result for result, _ in asked.observed] == ["route", "not_modified"]


async def test_an_unsolicited_304(core):
    core.trouble = 304
    async with Asked(core) as asked:
        with pytest.raises(CoreApiError):
            await asked.api.ask("a.test", None)


async def test_an_unknown_host(core):
    async with Asked(core) as asked:
        result = await asked.api.ask("nobody.test", None)
    assert (result.route, result.not_modified) == (None, False)
    assert [result for result, _ in asked.observed] == ["unknown"]
    assert asked.api.up


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_failure_of_the_service(core, status):
    core.trouble = status
    async with Asked(core) as asked:
        with pytest.raises(CoreApiError) as raised:
            await asked.api.ask("a.test", None)
    assert raised.value.service_failed
    assert not asked.api.up
    assert [result for result, _ in asked.observed] == ["error"]


@pytest.mark.parametrize("status", [200, 201, 204, 301, 400, 401, 403, 410])
async def test_a_rejected_hostname(core, status):
    core.trouble = status  # with no body
    async with Asked(core) as asked:
        with pytest.raises(CoreApiError) as raised:
            await asked.api.ask("a.test", None)
    assert not raised.value.service_failed
    assert asked.api.up == (status in (400, 410)), "a wrong token is a fault of the service"
    assert [result for result, _ in asked.observed] == ["rejected"]


BAD = {
    "no json": b"{not json",
    "nothing": b" ",
    "a list": b"[]",
    "members missing": b'{"hostname": "a.test"}',
    "a port that is text": json.dumps({**ROUTE, "backends": [{"id": "b", "address": "a", "port": "80"}]}).encode(),
    "backends null": json.dumps({**ROUTE, "backends": None}).encode(),
    "about another hostname": json.dumps({**ROUTE, "hostname": "b.test"}).encode(),
    "a generation of 70 bits": json.dumps({**ROUTE, "generation": 2**70}).encode(),
    "no site": json.dumps({**ROUTE, "site": ""}).encode(),
    "nested without end": b"[" * 100_000,
    "no usable backend": json.dumps({**ROUTE, "backends": [{"id": "b", "address": "a\0", "port": 80}]}).encode(),
    "a redirect to nowhere": json.dumps({**ROUTE, "redirect": "/x"}).encode(),
    "not utf-8": b'{"hostname": "\xff\xfe"}',
    "too large": json.dumps({**ROUTE, "padding": "x" * (2 << 20)}).encode(),
}


@pytest.mark.parametrize("what", BAD)
async def test_bad_responses(core, what):
    core.answer = BAD[what]
    async with Asked(core) as asked:
        with pytest.raises(CoreApiError) as raised:
            await asked.api.ask("a.test", None)
        assert not raised.value.service_failed
        core.answer = None
        assert (await asked.api.ask("a.test", None)).route is not None
    assert asked.api.up


async def test_optional_members(core):
    core.routes["a.test"] = {
        "hostname": "a.test",
        "site": "acme",
        "environment": "live",
        "generation": 7,
        "backends": [{"id": "b1", "address": "127.0.0.1", "port": 1}],
    }
    async with Asked(core) as asked:
        result = await asked.api.ask("a.test", None)
    assert (result.route.maintenance, result.route.redirect) == (False, None)
    assert (result.route.backends[0].role, result.route.backends[0].state) == ("active", "running")


async def test_faults_in_a_route_are_reported(core):
    odd = {"id": "b2", "address": "10.0.0.2", "port": 1, "role": "primary", "state": "dreaming"}
    core.routes["a.test"] = {
        **ROUTE,
        "backends": [*ROUTE["backends"], odd, {"id": "b3", "address": "0.0.0.0", "port": 1}],
    }
    async with Asked(core) as asked:
        result = await asked.api.ask("a.test", None)
    assert [backend.id for backend in result.route.backends] == ["b1", "b2"]
    codes = [remark.code for remark in result.remarks]
    assert codes == ["core_api_unknown_role", "core_api_unknown_state", "core_api_bad_backend"]


@pytest.mark.parametrize(("etag", "stored"), [('"' + "7" * 900 + '"', True), ('"' + "7" * 1100 + '"', False)])
async def test_the_length_of_an_etag_is_limited(core, etag, stored):
    core.etags, core.etag = True, etag
    async with Asked(core) as asked:
        assert (await asked.api.ask("a.test", None)).etag == (etag if stored else None)


async def test_token(core, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    async with Asked(core, token_file=str(tmp_path / "token")) as asked:
        await asked.api.ask("a.test", None)
    assert core.headers[0]["Authorization"] == "Bearer secret"
    async with Asked(core) as asked:
        await asked.api.ask("a.test", None)
    assert "Authorization" not in core.headers[1]


async def test_a_token_that_cannot_be_read_is_an_error(core, tmp_path):
    (tmp_path / "empty").write_text("\n")
    for name, why in (("empty", "is empty"), ("missing", "No such file")):
        async with Asked(core, token_file=str(tmp_path / name)) as asked:
            with pytest.raises(CoreApiError, match=why):
                await asked.api.ask("a.test", None)
    assert not core.headers, "no request without the token"


async def test_no_connection(core):
    await core.stop()
    async with Asked(core) as asked:
        with pytest.raises(CoreApiError) as caught:
            await asked.api.ask("a.test", None)
    assert not asked.api.up
    assert not caught.value.connected


async def test_a_hostname_is_encoded_in_the_path(core):
    async with Asked(core) as asked:
        await asked.api.ask("a/../b?c#d", None)
    assert core.lookups == ["a/../b?c#d"]
