"""Made-up hostnames from hundreds of addresses, beside sites that exist, over real sockets.

How long each waits, and how many are refused, is in tests/net/routing/test_lookup_flood.py.
"""

import asyncio
from collections import Counter
from time import monotonic

from tests.support.scene import Scene, request

ADDRESSES, NAMES_EACH = 250, 6
COLD, KNOWN = 100, 10
LIMIT = 25.0
"Unknown hostnames a second, which is what must be left of the many."


class Flood:
    """Every client has an address of its own, and one request after the other on its connection."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.made_up: Counter[tuple[int, str | None]] = Counter()
        self.over = False

    async def ask(self, source: str, *hosts: str) -> list[tuple[int, str | None, float]]:
        """Status, reason and seconds of each."""
        client = await self.scene.client(source=source)
        seen = []
        for host in hosts:
            began = monotonic()
            await client.write(request(host))
            reply = await client.read_reply()
            seen.append((reply.status, reply.error, monotonic() - began))
        client.leave()
        return seen

    async def name_many(self, number: int) -> None:
        hosts = (f"{number}-{n}.none.test" for n in range(NAMES_EACH))
        for status, error, _ in await self.ask(f"127.1.{number // 250}.{number % 250}", *hosts):
            self.made_up[status, error] += 1

    async def ask_known(self) -> list[int]:
        statuses = []
        while not self.over:
            hosts = [f"known-{n}.test" for n in range(KNOWN)]
            statuses += [status for status, _, _ in await self.ask("127.2.0.1", *hosts)]
        return statuses


async def test_cold_and_known_sites_are_served_in_a_flood(scene: Scene) -> None:
    scene.settings(limits={"unknown_hosts": LIMIT, "unknown_hosts_per_client": 10.0})
    backend = scene.backend()
    for name in (*(f"known-{n}.test" for n in range(KNOWN)), *(f"cold-{n}.test" for n in range(COLD))):
        scene.route(name, [backend])
    for n in range(KNOWN):
        assert (await scene.get(f"known-{n}.test")).status == 200
    flood, began = Flood(scene), monotonic()
    known = asyncio.create_task(flood.ask_known())
    many = [asyncio.create_task(flood.name_many(n)) for n in range(ADDRESSES)]
    await scene.until(lambda: flood.made_up[429, "unknown_host_limit"] > 50)
    cold = []
    for n in range(COLD):
        cold += await flood.ask(f"127.3.0.{n + 1}", f"cold-{n}.test")
    await asyncio.gather(*many)
    took, flood.over = monotonic() - began, True
    statuses = await known
    assert set(statuses) == {200}
    good = sum(status == 200 for status, *_ in cold)  # a lookup that waits for too long fails: 503
    assert good >= 0.99 * COLD, Counter((status, error) for status, error, _ in cold)
    unknown = [name for name in scene.core.lookups if name.endswith(".none.test")]
    assert len(unknown) <= 2 * LIMIT * (took + 1.0) + 2
    assert sum(flood.made_up.values()) == ADDRESSES * NAMES_EACH


async def test_the_first_name_of_a_client_waits_and_later_ones_are_refused(scene: Scene) -> None:
    scene.settings(limits={"unknown_hosts": 4.0})
    scene.route("cold.test", [scene.backend()])
    flood = Flood(scene)
    for n in range(20):
        await flood.ask(f"127.1.0.{n + 1}", f"{n}.none.test")
    [(status, _, _)] = await flood.ask("127.2.0.1", "cold.test")
    assert status == 200
    statuses = [(await flood.ask("127.1.0.1", f"again-{n}.none.test"))[0][:2] for n in range(10)]
    assert (429, "unknown_host_limit") in statuses


async def test_the_first_name_of_a_client_gets_503_if_it_waited_in_vain(scene: Scene) -> None:
    scene.settings(limits={"unknown_hosts": 0.01})
    flood = Flood(scene)
    for n in range(2):
        [(status, _, _)] = await flood.ask(f"127.1.0.{n + 1}", f"{n}.none.test")
        assert status == 404
    scene.change("core_api", timeout=0.2)
    [(status, error, seconds)] = await flood.ask("127.2.0.1", "cold.test")
    assert (status, error) == (503, "lookup_failed")
    assert seconds >= 0.2
    assert "cold.test" not in scene.core.lookups


async def test_a_proxy_that_names_its_clients_is_not_one_client(scene: Scene) -> None:
    scene.settings(limits={"unknown_hosts_per_client": 0.1}, forwarding={"trusted": ("127.0.0.0/8",)})
    scene.route("cold.test", [scene.backend()])
    noisy = [("X-Forwarded-For", "198.51.100.9, 2001:db8:0:1::7")]
    assert [(await scene.get(f"{n}.test", headers=noisy)).status for n in range(3)] == [404, 404, 429]
    neighbour = [("X-Forwarded-For", "[2001:db8:0:1::8]:49152")]
    assert (await scene.get("cold.test", headers=neighbour)).status == 429, "the same /64"
    assert (await scene.get("cold.test", headers=[("X-Forwarded-For", "198.51.100.9")])).status == 200
