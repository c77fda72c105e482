"""The steps of the script: each sends requests, changes or breaks something, and checks the result.

Each step has environments of its own, so that no state of another one matters; only the steps with five containers
share a site, because in production such faults happen on one site too.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edge.demo.script_client import Order, ScriptClient, ScriptReply, until
from edge.demo.styx_process import StyxProcess
from edge.platform.containers.container import Container
from edge.platform.pocket_platform import PocketPlatform

SITES: dict[str, dict[str, Any]] = {
    # Each has room for 12 requests, because the 50 first requests have to fit into five.
    "five": {"containers": 5, "queue": 8},
    "moving": {},
    "sleepy": {"asleep": True},
    "growing": {"containers": 2},
    "orders": {"containers": 3},
    "pair": {"containers": 1, "standby": 1},
}
"Environments that the steps need, by site; the members are those of EnvironmentSpec."

CORE_API_TIMEOUT = 1.0
"Seconds; core_api.timeout of the styx in the script."

ORDER_SIZE = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ScriptContext:
    """The platform, the edge and the client that the steps use."""

    platform: PocketPlatform
    styx: StyxProcess
    client: ScriptClient

    async def attempts(self, result: str) -> int:
        """Number of attempts of styx with this result so far."""
        _, metrics = await self.styx.ask_admin("/metrics")
        wanted = f'styx_attempts_total{{result="{result}"}} '
        return sum(
            int(float(line.removeprefix(wanted))) for line in metrics.splitlines() if line.startswith(wanted)
        )

    async def no_longer_fresh(self, hostname: str, seconds: float) -> str:
        """Wait up to `seconds` until the route of a hostname is not fresh any more; returns its freshness."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            _, body = await self.styx.ask_admin(f"/v1/routes/{hostname}/explain")
            freshness = str(json.loads(body)["workers"][0]["content"]["freshness"])
            if freshness != "fresh" or asyncio.get_running_loop().time() > deadline:
                return freshness
            await asyncio.sleep(0.02)

    def ids(self, site: str) -> set[str]:
        """Ids of the containers that this site has now."""
        return {container.spec.id for container in self.platform.containers(site)}


@dataclass(slots=True)
class Result:
    """The result of one step."""

    replies: Sequence[ScriptReply]
    faults: list[str] = field(default_factory=list)
    note: str = ""

    def check(self, holds: bool, fault: str) -> None:
        """Record `fault` unless `holds`."""
        if not holds:
            self.faults.append(fault)

    def check_all_ok(self) -> None:
        bad = sorted({reply.words for reply in self.replies if reply.status != 200})
        self.check(not bad, f"not every answer was 200: {', '.join(bad)}")

    @property
    def containers(self) -> set[str]:
        return {reply.container for reply in self.replies if reply.container}


class Step(NamedTuple):
    """One step of the script."""

    asked: str
    expected: str
    play: Callable[[ScriptContext], Awaitable[Result]]


def host(site: str) -> str:
    """The default hostname of the live environment of a site."""
    return f"live-{site}.localhost"


async def first_requests(context: ScriptContext) -> Result:
    result = Result(await context.client.ask_often(host("five"), 50, at_once=50))
    lookups = context.platform.lookups[host("five")]
    result.check_all_ok()
    # 50 handshakes may take longer than a route is fresh here, which is a second.
    most = 2 if context.client.has_tls else 1
    result.check(1 <= lookups <= most, f"there were {lookups} lookups at the core API")
    result.note = f"lookups: {lookups}"
    return result


async def spread(context: ScriptContext) -> Result:
    result = Result(await context.client.ask_often(host("five"), 200))
    result.check_all_ok()
    idle = context.ids("five") - result.containers
    result.check(not idle, f"no request came to {', '.join(sorted(idle))}")
    return result


async def full(context: ScriptContext) -> Result:
    container = context.platform.containers("five")[0]
    before = await context.attempts("refused")
    container.fill(on=True)
    result = Result(await context.client.ask_often(host("five"), 100))
    container.fill(on=False)
    refused = await context.attempts("refused") - before
    result.check_all_ok()
    result.check(refused > 0, "the full container got no request")
    result.check(container.spec.id not in result.containers, "the full container served a request")
    result.note = f"{container.spec.id} refused: {refused}"
    return result


async def killed(context: ScriptContext) -> Result:
    container = context.platform.containers("five")[1]
    enough = context.client.answered + 100
    traffic = asyncio.ensure_future(context.client.ask_often(host("five"), 400, at_once=8))
    await until(lambda: context.client.answered >= enough or traffic.done(), 10)
    running = not traffic.done()
    await container.kill()
    result = Result(await traffic)
    await container.heal()
    result.check_all_ok()
    result.check(running, "all requests had ended before the container was killed")
    result.note = f"killed: {container.spec.id}"
    return result


async def moved(context: ScriptContext) -> Result:
    [container] = context.platform.containers("moving")
    replies = [await context.client.ask(host("moving"))]
    elsewhere = "wrong_backend" if context.client.has_tls else "misdirected"
    before = await context.attempts(elsewhere)
    await context.platform.move(container.spec.id, announce=False, leave="another")
    replies.append(await context.client.ask(host("moving")))
    await context.platform.move(container.spec.id, announce=False, leave="another")
    order = Order.of(16 * 1024)
    replies.append(await context.client.order(host("moving"), order))
    result = Result(replies)
    misdirected = await context.attempts(elsewhere) - before
    result.check_all_ok()
    result.check(order.is_receipt(replies[-1]), "the POST did not arrive whole")
    result.check(container.executed[order.id] == 1, f"the POST was executed {container.executed[order.id]} times")
    # The failed GET makes all workers look the route up again soon, so the POST may not be misdirected.
    result.check(misdirected >= 1, "no attempt reached the other container at the old address")
    result.note = f"{elsewhere}: {misdirected}"
    return result


async def asleep(context: ScriptContext) -> Result:
    [container] = context.platform.containers("sleepy")
    slept = container.state == "asleep"
    result = Result([await context.client.ask(host("sleepy"))])
    result.check(slept, "the container was awake before")
    result.check_all_ok()
    result.note = f"it took {result.replies[0].seconds:.2f} s"
    return result


async def grown(context: ScriptContext) -> Result:
    replies = await context.client.ask_often(host("growing"), 20)
    two = len(Result(replies).containers)
    await context.platform.set_goal("growing", containers=5)
    all_five = context.ids("growing")
    result = Result(replies)
    deadline = asyncio.get_running_loop().time() + 10
    while result.containers != all_five and asyncio.get_running_loop().time() < deadline:
        replies += await context.client.ask_often(host("growing"), 20)
        if replies[-1].status != 200:
            break
    result.check_all_ok()
    result.check(two == 2, f"{two} containers served requests at the beginning, not 2")
    result.check(len(all_five) == 5, f"the platform has {len(all_five)} containers, not 5")
    result.check(result.containers == all_five, f"{len(result.containers)} containers served requests in the end")
    return result


async def core_api_gone(context: ScriptContext) -> Result:
    client, known = context.client, host("five")
    replies = await client.ask_often(known, 20)
    await context.platform.stop_core_api()
    try:
        unknown = [await client.ask("nobody-knows.localhost")]
        freshness = await context.no_longer_fresh(known, 5)
        replies += await client.ask_often(known, 20)
        with socket.create_server((context.platform.spec.address, context.platform.core_api_port)):
            # The port accepts connections now, and sends nothing.
            unknown.append(await client.ask("somebody-else.localhost"))
            replies += await client.ask_often(known, 20)
    finally:
        await context.platform.start_core_api()
    result = Result(replies)
    result.check_all_ok()
    result.check(freshness == "stale", f"the route was {freshness}, not stale")
    for reply in unknown:
        # Without the core API, there is no certificate for it either.
        expected = "cut ClientConnectorSSLError" if client.has_tls else "503 lookup_failed"
        result.check(reply.words == expected, f"an unknown hostname got {reply.words}")
        late = reply.seconds > CORE_API_TIMEOUT + 0.5
        result.check(not late, f"lookup_failed came after {reply.seconds:.2f} s")
    result.replies = [*replies, *unknown]
    result.note = f"unknown: {unknown[0].seconds:.2f} s refused, {unknown[1].seconds:.2f} s silent"
    return result


async def orders(context: ScriptContext) -> Result:
    containers = context.platform.containers("orders")
    sent = [Order.of(ORDER_SIZE) for _ in range(12)]
    replies = await _order(context, sent[:4])
    containers[0].fill(on=True)
    # A body of this size cannot be replayed after a refusal; with "Expect: 100-continue" it has not been sent yet.
    replies += await _order(context, sent[4:8], expect=True)
    containers[0].fill(on=False)
    await containers[1].kill()
    replies += await _order(context, sent[8:])
    await containers[1].heal()
    result = Result(replies)
    result.check_all_ok()
    whole = sum(order.is_receipt(reply) for order, reply in zip(sent, replies, strict=True))
    result.check(whole == len(sent), f"{len(sent) - whole} orders did not arrive whole")
    often = executions(containers, sent)
    result.check(set(often) == {1}, f"numbers of executions of the orders: {often}")
    result.note = f"executed once: {often.count(1)}"
    return result


async def _order(context: ScriptContext, sent: Sequence[Order], *, expect: bool = False) -> list[ScriptReply]:
    """Send the orders concurrently, every other one chunked."""
    return await asyncio.gather(
        *(
            context.client.order(host("orders"), order, chunked=bool(number % 2), expect=expect)
            for number, order in enumerate(sent)
        )
    )


def executions(containers: Sequence[Container], sent: Sequence[Order]) -> list[int]:
    """Number of executions of each order, in all containers together."""
    executed = [container.executed for container in containers]
    return [sum(counts[order.id] for counts in executed) for order in sent]


async def failover(context: ScriptContext) -> Result:
    [active] = context.platform.containers("pair", role="active")
    [standby] = context.platform.containers("pair", role="standby")
    before = await context.client.ask_often(host("pair"), 20, at_once=4)
    await active.kill()
    during = await context.client.ask_often(host("pair"), 20, at_once=4)
    await active.heal()
    result = Result([*before, *during])
    result.check_all_ok()
    result.check(
        Result(before).containers == {active.spec.id}, "the standby was used while the active one was healthy"
    )
    result.check(Result(during).containers == {standby.spec.id}, "not all responses came from the standby")
    return result


STEPS = (
    Step("50 first requests of a new site, together", "all 200, and one lookup at the core API", first_requests),
    Step("200 requests over five containers", "all 200, and each container served some", spread),
    Step("100 requests, one of five is full", "all 200, none of them from the full one", full),
    Step("400 requests, one of five is killed meanwhile", "all 200", killed),
    Step("GET and POST, each after an unannounced move", "200, the new address found in the same request", moved),
    Step("a request wakes a sleeping container", "200", asleep),
    Step("goal 2 -> 5 after 20 requests", "all 200, in the end from five containers", grown),
    Step("the core API is down, then silent", "known hosts 200 though stale, unknown 503 in time", core_api_gone),
    Step("10 MiB POSTs: all healthy, one full, one killed", "each arrives whole and is executed once", orders),
    Step("the active one of a pair is killed", "20 from the active one, then 20 from the standby", failover),
)
