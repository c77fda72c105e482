"""Health events: what one worker finds out about a container reaches the others at once."""

import asyncio
import json

from edge.platform.pocket_platform import PocketPlatform
from tests.support.processes.edges import Kept, edge

HOST = b"GET / HTTP/1.1\r\nHost: live-globex.localhost\r\n\r\n"


async def conditions(styx, container: str) -> list[tuple[str, int]]:
    """The condition of the backends in each worker that has served the site, and the responses that it has
    timed."""
    _, said = await styx.ask_admin("/v1/routes/live-globex.localhost/explain")
    told = [worker["content"] for worker in json.loads(said).get("workers", ())]
    backends = [backend for one in told if one is not None for backend in one["backends"]]
    return [(backend["condition"], backend["samples"]) for backend in backends if backend["id"] == container]


async def test_a_container_that_one_worker_cannot_connect_to_is_down_for_all(platform: PocketPlatform):
    await platform.create_environment("globex", containers=3, service_time=0)
    async with edge(core_api=platform.core_api_url) as styx:
        killed = platform.registry.containers("globex", "live")[0]
        async with asyncio.timeout(100):
            while len(known := await conditions(styx, killed.id)) < 2 or not all(samples for _, samples in known):
                async with Kept(styx.port) as kept:
                    assert (await kept.ask(HOST)).startswith(b"HTTP/1.1 200 ")
        await platform.container(killed.id).kill()
        async with Kept(styx.port) as kept, asyncio.timeout(100):  # of one worker: the other one is only told
            while [condition for condition, _ in await conditions(styx, killed.id)] != ["down", "down"]:
                assert (await kept.ask(HOST)).startswith(b"HTTP/1.1 200 ")
