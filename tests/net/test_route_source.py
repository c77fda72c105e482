"""A file of routes in the place of a core API."""

import asyncio

import pytest

from edge.net.core_api import CoreApi, CoreApiError
from edge.net.route_source import RouteFileSource, route_source
from edge.rules.route_validation import BackendPolicy
from edge.rules.settings import CoreApiSettings

ONE = 'routes: [{hostnames: [a.test], backends: [{address: "10.0.0.1:80"}]}]\n'
TWO = 'routes: [{hostnames: [b.test], backends: [{address: "10.0.0.2:80"}]}]\n'


@pytest.fixture
async def file(tmp_path):
    file = tmp_path / "routes.yaml"
    file.write_text(ONE)
    return file


@pytest.fixture
async def source(file):
    source = RouteFileSource(str(file))
    source.swaps = []

    async def swapped():
        source.swaps.append(1)

    source.swapped = swapped
    yield source
    await source.close()


async def read_anew(source, file):
    source.obey(CoreApiSettings(url=f"file:{file}"))
    await source._reading


def test_which_source_the_settings_name(file):
    chosen = route_source(CoreApiSettings(url=f"file:{file}"), lambda *_: None, BackendPolicy())
    assert isinstance(chosen, RouteFileSource)
    assert isinstance(
        route_source(CoreApiSettings(url="http://127.0.0.1:1"), lambda *_: None, BackendPolicy()), CoreApi
    )


async def test_its_answers(source):
    said = await source.ask("a.test", None)
    assert [backend.address for backend in said.route.backends] == ["10.0.0.1"]
    assert said.deliberate
    assert (await source.ask("b.test", None)).route is None


async def test_a_new_content_takes_the_place_of_the_old_one(source, file):
    first = (await source.ask("a.test", None)).route
    file.write_text(TWO)
    await read_anew(source, file)
    assert (await source.ask("a.test", None)).route is None
    assert (await source.ask("b.test", None)).route.generation > first.generation
    assert len(source.swaps) == 2


@pytest.mark.parametrize(
    "fault", ["routes: [{hostnames: [a..test]}]", None, b"\xff\xfe"], ids=["bad", "gone", "binary"]
)
async def test_what_was_good_holds(source, file, caplog, fault):
    await source.ask("a.test", None)
    if fault is None:
        file.unlink()
    elif isinstance(fault, bytes):
        file.write_bytes(fault)
    else:
        file.write_text(fault)
    await read_anew(source, file)
    assert (await source.ask("a.test", None)).route is not None
    assert len(source.swaps) == 1
    assert str(file) in caplog.text
    if isinstance(fault, str):
        assert f"{file}:1:23: routes.0.hostnames.0: cannot be a hostname" in caplog.text


async def test_without_any_good_file_nobody_is_unknown(source, file):
    file.unlink()
    with pytest.raises(CoreApiError):
        await source.ask("a.test", None)
    assert not source.up
    file.write_text(ONE)
    await read_anew(source, file)
    assert (await source.ask("a.test", None)).route is not None
    assert source.up


async def test_many_who_ask_at_first_read_once(source):
    said = await asyncio.gather(*(source.ask("a.test", None) for _ in range(50)))
    assert all(answer.route is not None for answer in said)
    assert len(source.swaps) == 1
