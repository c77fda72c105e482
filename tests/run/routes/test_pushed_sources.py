"""The register of the pushed sources of routes."""

from edge.net.background import Background
from edge.rules.settings import CoreApiSettings, Settings
from edge.rules.settings.values import SOURCE_URLS
from edge.run.routes.pushed_sources import SOURCES, PushedSources, read_now
from edge.run.routes.route_set_store import RouteSetStore
from tests.support.processes.edges import CLOSED, NO_CORE_API


def test_the_settings_know_the_same_sources():
    assert SOURCES.keys() == SOURCE_URLS.keys()


def test_read_once():
    routes = read_now(CoreApiSettings(url=CLOSED))
    assert routes is not None
    assert routes.source == CLOSED.removeprefix("file:")
    assert read_now(CoreApiSettings(url=NO_CORE_API)) is None


async def test_the_source_in_the_settings_is_read(tmp_path):
    published = []

    async def publish(routes):
        published.append(routes.source)

    def named(url):
        return Settings.model_validate({"listeners": ({"address": "127.0.0.1:0"},), "core_api": {"url": url}})

    sources = PushedSources(RouteSetStore(tmp_path), publish, Background())
    assert await sources.take_now() == (True, [])
    sources.reconfigure(named(CLOSED))
    done, _ = await sources.take_now()
    assert done
    assert published == [CLOSED.removeprefix("file:")]
    sources.reconfigure(named(NO_CORE_API))
    assert await sources.take_now() == (True, [])
    await sources.stop()
