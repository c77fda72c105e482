"""The client of the core API against a real server."""

import json
from collections.abc import AsyncIterator

import pytest

from edge.net.core_api import CoreApi, CoreApiError
from edge.rules.settings import CoreApiSettings
from tests.scene_core_api import LONG, ScriptedCoreApi

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
        self.api = CoreApi(CoreApiSettings(url=core.url, **settings), lambda *told: self.observed.append(told))

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.api.close()


async def test_a_route(core):
    async with Asked(core) as asked:
        answer = await asked.api.ask("a.test", None)
    assert (answer.route.site, answer.route.environment, answer.route.generation) == ("acme", "live", 7)
    [backend] = answer.route.backends
    assert (backend.id, backend.address, backend.role, backend.state) == ("b1", "fd00::7", "standby", "asleep")
    assert answer.cache_control == LONG
    assert not answer.not_modified
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


async def test_not_modified_that_nobody_asked_for(core):
    core.trouble = 304
    async with Asked(core) as asked:
        with pytest.raises(CoreApiError):
            await asked.api.ask("a.test", None)


async def test_unknown(core):
    async with Asked(core) as asked:
        answer = await asked.api.ask("nobody.test", None)
    assert (answer.route, answer.not_modified) == (None, False)
    assert [result for result, _ in asked.observed] == ["unknown"]
    assert asked.api.up


@pytest.mark.parametrize("status", [200, 201, 204, 301, 400, 401, 403, 410, 429, 500, 503])
async def test_anything_else_is_could_not_ask(core, status):
    core.trouble = status  # with no body
    async with Asked(core) as asked:
        with pytest.raises(CoreApiError):
            await asked.api.ask("a.test", None)
    assert not asked.api.up
    assert [result for result, _ in asked.observed] == ["error"]


BAD = {
    "no json": b"{not json",
    "nothing": b" ",
    "a list": b"[]",
    "members missing": b'{"hostname": "a.test"}',
    "a port that is text": json.dumps({**ROUTE, "backends": [{"id": "b", "address": "a", "port": "80"}]}).encode(),
    "backends null": json.dumps({**ROUTE, "backends": None}).encode(),
    "not utf-8": b'{"hostname": "\xff\xfe"}',
    "too large": json.dumps({**ROUTE, "padding": "x" * (2 << 20)}).encode(),
}


@pytest.mark.parametrize("what", BAD)
async def test_answers_that_are_none(core, what):
    core.answer = BAD[what]
    async with Asked(core) as asked:
        with pytest.raises(CoreApiError):
            await asked.api.ask("a.test", None)
        core.answer = None
        assert (await asked.api.ask("a.test", None)).route is not None
    assert asked.api.up


async def test_members_that_may_be_absent(core):
    core.routes["a.test"] = {
        "hostname": "a.test",
        "site": "acme",
        "environment": "live",
        "generation": 7,
        "backends": [{"id": "b1", "address": "127.0.0.1", "port": 1}],
    }
    async with Asked(core) as asked:
        answer = await asked.api.ask("a.test", None)
    assert (answer.route.maintenance, answer.route.redirect) == (False, None)
    assert (answer.route.backends[0].role, answer.route.backends[0].state) == ("active", "running")


async def test_token(core, tmp_path):
    (tmp_path / "token").write_text("secret\n")
    async with Asked(core, token_file=str(tmp_path / "token")) as asked:
        await asked.api.ask("a.test", None)
    assert core.headers[0]["Authorization"] == "Bearer secret"
    async with Asked(core) as asked:
        await asked.api.ask("a.test", None)
    assert "Authorization" not in core.headers[1]


async def test_nobody_there(core):
    await core.stop()
    async with Asked(core) as asked:
        with pytest.raises(CoreApiError):
            await asked.api.ask("a.test", None)
    assert not asked.api.up


async def test_a_hostname_stays_within_its_segment(core):
    async with Asked(core) as asked:
        await asked.api.ask("a/../b?c#d", None)
    assert core.questions == ["a/../b?c#d"]
