"""One platform, one styx and one page for all tests of a module: what a test breaks is mended afterwards."""

import asyncio

import pytest
import pytest_asyncio

from edge.demo.demo import CONFIG, FRESHNESS, SITES, environ_of_styx
from edge.demo.free_ports import free_port
from edge.demo.page.demo_page import DemoPage
from edge.demo.styx_process import StyxProcess
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage():
    """(platform, styx, page), as `styx demo` starts them."""
    spec = PlatformSpec(freshness=FRESHNESS, seed=7, notice=0.05)
    async with PocketPlatform(spec) as platform:
        await asyncio.gather(*(platform.create_environment(site, **size) for site, size in SITES.items()))
        environ = environ_of_styx(platform, free_port())
        async with StyxProcess(CONFIG, environ) as styx, DemoPage(platform, styx, free_port()) as page:
            yield platform, styx, page


@pytest_asyncio.fixture(loop_scope="module")
async def demo(stage):
    """The page; after the test nothing is broken, everything is switched off, and goals are those of the start."""
    platform, _, page = stage
    page.load.rate = 30
    yield page
    for upkeep in (platform.reaper, platform.dragon):
        await upkeep.stop()
    if not platform.core_api_up:
        await platform.start_core_api()
    for known in platform.registry.environments():
        if known.site not in SITES:
            await platform.remove_environment(known.site)
            continue
        await platform.set_goal(known.site, containers=SITES[known.site]["containers"])
        for container in platform.containers(known.site):
            await container.heal()
            await container.wake()


@pytest.fixture
def platform(stage):
    return stage[0]
