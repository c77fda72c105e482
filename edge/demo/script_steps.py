"""The steps of the script: each asks something of styx, makes something happen, and says what has to come of it.

Every step has environments of its own, so that none has to forget what another did; only the trouble of one of
five containers is played on one site, as it would be in life.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from edge.demo.script_client import Order, ScriptClient, ScriptReply, until
from edge.demo.styx_process import StyxProcess
from edge.platform.containers import Container
from edge.platform.pocket_platform import PocketPlatform

SITES: dict[str, dict[str, Any]] = {
    # 12 places in each: the 50 first requests have to fit into five.
    "five": {"containers": 5, "queue": 8},
    "moving": {},
    "sleepy": {"asleep": True},
    "growing": {"containers": 2},
    "orders": {"containers": 3},
    "pair": {"containers": 1, "standby": 1},
}
"What the platform has to have, by site."

CORE_API_TIMEOUT = 1.0
"Seconds; core_api.timeout of the styx in the script."

ORDER_SIZE = 10 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ScriptStage:
    """What the steps act on."""

    platform: PocketPlatform
    styx: StyxProcess
    client: ScriptClient

    async def attempts(self, result: str) -> int:
        """Attempts of styx at containers that ended like this, so far."""
        _, metrics = await self.styx.ask_admin("/metrics")
        wanted = f'styx_attempts_total{{result="{result}"}} '
        return sum(
            int(float(line.removeprefix(wanted))) for line in metrics.splitlines() if line.startswith(wanted)
        )

    async def no_longer_fresh(self, hostname: str, seconds: float) -> str:
        """Wait until styx's route to this hostname is not fresh any more; what it is then, or still is."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            _, said = await self.styx.ask_admin(f"/v1/routes/{hostname}/explain")
            freshness = str(json.loads(said)["workers"][0]["told"]["freshness"])
            if freshness != "fresh" or asyncio.get_running_loop().time() > deadline:
                return freshness
            await asyncio.sleep(0.02)

    def ids(self, site: str) -> set[str]:
        """Of the containers that this site has now."""
        return {container.spec.id for container in self.platform.containers(site)}


@dataclass(slots=True)
class Result:
    """What came of one step."""

    replies: Sequence[ScriptReply]
    faults: list[str] = field(default_factory=list)
    note: str = ""

    def check(self, holds: bool, fault: str) -> None:
        """Something that has to hold, and what to say when it does not."""
        if not holds:
            self.faults.append(fault)

    def check_all_well(self) -> None:
        bad = sorted({reply.words for reply in self.replies if reply.status != 200})
        self.check(not bad, f"not every answer was 200: {', '.join(bad)}")

    @property
    def containers(self) -> set[str]:
        return {reply.container for reply in self.replies if reply.container}


class Step(NamedTuple):
    """One step of the script."""

    asked: str
    expected: str
    play: Callable[[ScriptStage], Awaitable[Result]]


def host(site: str) -> str:
    """The hostname that the platform gives to the live environment of a site."""
    return f"live-{site}.localhost"


async def first_requests(stage: ScriptStage) -> Result:
    result = Result(await stage.client.ask_often(host("five"), 50, at_once=50))
    questions = stage.platform.questions[host("five")]
    result.check_all_well()
    result.check(questions == 1, f"the core API was asked {questions} times")
    result.note = f"core API asked: {questions}"
    return result


async def spread(stage: ScriptStage) -> Result:
    result = Result(await stage.client.ask_often(host("five"), 200))
    result.check_all_well()
    idle = stage.ids("five") - result.containers
    result.check(not idle, f"no request came to {', '.join(sorted(idle))}")
    return result


async def full(stage: ScriptStage) -> Result:
    container = stage.platform.containers("five")[0]
    before = await stage.attempts("refused")
    container.fill(on=True)
    result = Result(await stage.client.ask_often(host("five"), 100))
    container.fill(on=False)
    refused = await stage.attempts("refused") - before
    result.check_all_well()
    result.check(refused > 0, "the full container was never asked")
    result.check(container.spec.id not in result.containers, "the full container answered")
    result.note = f"{container.spec.id} refused: {refused}"
    return result


async def killed(stage: ScriptStage) -> Result:
    container = stage.platform.containers("five")[1]
    enough = stage.client.answered + 100
    traffic = asyncio.ensure_future(stage.client.ask_often(host("five"), 400, at_once=8))
    await until(lambda: stage.client.answered >= enough or traffic.done(), 10)
    running = not traffic.done()
    await container.kill()
    result = Result(await traffic)
    await container.heal()
    result.check_all_well()
    result.check(running, "all was over before the container was killed")
    result.note = f"killed: {container.spec.id}"
    return result


async def moved(stage: ScriptStage) -> Result:
    [container] = stage.platform.containers("moving")
    replies = [await stage.client.ask(host("moving"))]
    before = await stage.attempts("misdirected")
    await stage.platform.move(container.spec.id, announce=False, leave="stranger")
    replies.append(await stage.client.ask(host("moving")))
    await stage.platform.move(container.spec.id, announce=False, leave="stranger")
    order = Order.of(16 * 1024)
    replies.append(await stage.client.order(host("moving"), order))
    result = Result(replies)
    strangers = await stage.attempts("misdirected") - before
    result.check_all_well()
    result.check(order.is_receipt(replies[-1]), "the POST did not arrive whole")
    result.check(container.executed[order.id] == 1, f"the POST was executed {container.executed[order.id]} times")
    # What was found out by the GET is told to all workers, which ask again within a moment: the POST may be spared.
    result.check(strangers >= 1, "the stranger at the old place was never met")
    result.note = f"answers 421: {strangers}"
    return result


async def asleep(stage: ScriptStage) -> Result:
    [container] = stage.platform.containers("sleepy")
    slept = container.state == "asleep"
    result = Result([await stage.client.ask(host("sleepy"))])
    result.check(slept, "the container was awake before")
    result.check_all_well()
    result.note = f"it took {result.replies[0].seconds:.2f} s"
    return result


async def grown(stage: ScriptStage) -> Result:
    replies = await stage.client.ask_often(host("growing"), 20)
    two = len(Result(replies).containers)
    await stage.platform.set_goal("growing", containers=5)
    everyone = stage.ids("growing")
    result = Result(replies)
    deadline = asyncio.get_running_loop().time() + 10
    while result.containers != everyone and asyncio.get_running_loop().time() < deadline:
        replies += await stage.client.ask_often(host("growing"), 20)
        if replies[-1].status != 200:
            break
    result.check_all_well()
    result.check(two == 2, f"{two} containers answered at the beginning, not 2")
    result.check(len(everyone) == 5, f"the platform has {len(everyone)} containers, not 5")
    result.check(result.containers == everyone, f"{len(result.containers)} containers answered in the end")
    return result


async def core_api_gone(stage: ScriptStage) -> Result:
    client, known = stage.client, host("five")
    replies = await client.ask_often(known, 20)
    await stage.platform.stop_core_api()
    try:
        unknown = [await client.ask("nobody-knows.localhost")]
        freshness = await stage.no_longer_fresh(known, 5)
        replies += await client.ask_often(known, 20)
        with socket.create_server((stage.platform.spec.address, stage.platform.core_api_port)):
            # Somebody is there now, and says nothing.
            unknown.append(await client.ask("somebody-else.localhost"))
            replies += await client.ask_often(known, 20)
    finally:
        await stage.platform.start_core_api()
    result = Result(replies)
    result.check_all_well()
    result.check(freshness == "stale", f"the route was {freshness}, not stale")
    for reply in unknown:
        result.check(reply.words == "503 lookup_failed", f"an unknown hostname got {reply.words}")
        late = reply.seconds > CORE_API_TIMEOUT + 0.5
        result.check(not late, f"lookup_failed came after {reply.seconds:.2f} s")
    result.replies = [*replies, *unknown]
    result.note = f"unknown: {unknown[0].seconds:.2f} s refused, {unknown[1].seconds:.2f} s silent"
    return result


async def orders(stage: ScriptStage) -> Result:
    containers = stage.platform.containers("orders")
    sent = [Order.of(ORDER_SIZE) for _ in range(12)]
    replies = await _order(stage, sent[:4])
    containers[0].fill(on=True)
    # A refused body of this size cannot be said again; with "Expect: 100-continue" it has not been sent yet.
    replies += await _order(stage, sent[4:8], expect=True)
    containers[0].fill(on=False)
    await containers[1].kill()
    replies += await _order(stage, sent[8:])
    await containers[1].heal()
    result = Result(replies)
    result.check_all_well()
    whole = sum(order.is_receipt(reply) for order, reply in zip(sent, replies, strict=True))
    result.check(whole == len(sent), f"{len(sent) - whole} orders did not arrive whole")
    often = executions(containers, sent)
    result.check(set(often) == {1}, f"the orders were executed so many times: {often}")
    result.note = f"executed once: {often.count(1)}"
    return result


async def _order(stage: ScriptStage, sent: Sequence[Order], *, expect: bool = False) -> list[ScriptReply]:
    """All at once, every other one chunked."""
    return await asyncio.gather(
        *(
            stage.client.order(host("orders"), order, chunked=bool(number % 2), expect=expect)
            for number, order in enumerate(sent)
        )
    )


def executions(containers: Sequence[Container], sent: Sequence[Order]) -> list[int]:
    """How often each order was executed, by all containers together."""
    books = [container.executed for container in containers]
    return [sum(book[order.id] for book in books) for order in sent]


async def stood_in(stage: ScriptStage) -> Result:
    [active] = stage.platform.containers("pair", role="active")
    [standby] = stage.platform.containers("pair", role="standby")
    before = await stage.client.ask_often(host("pair"), 20, at_once=4)
    await active.kill()
    during = await stage.client.ask_often(host("pair"), 20, at_once=4)
    await active.heal()
    result = Result([*before, *during])
    result.check_all_well()
    result.check(
        Result(before).containers == {active.spec.id}, "the standby was used while the active one was well"
    )
    result.check(Result(during).containers == {standby.spec.id}, "not all came from the standby")
    return result


STEPS = (
    Step("50 first requests of a new site, together", "all 200, and one question to the core API", first_requests),
    Step("200 requests over five containers", "all 200, and every container answered some", spread),
    Step("100 requests, one of five is full", "all 200, none of them from the full one", full),
    Step("400 requests, one of five is killed meanwhile", "all 200", killed),
    Step("GET and POST, moved unannounced before each", "200, found again within the same request", moved),
    Step("a request wakes a sleeping container", "200", asleep),
    Step("goal 2 -> 5, styx is told nothing", "all 200, in the end from five containers", grown),
    Step("the core API is gone, then silent", "known hosts 200 though stale, unknown 503 in time", core_api_gone),
    Step("POSTs of 10 MiB: all well, one full, one killed", "each arrives whole and is executed once", orders),
    Step("the active one of a pair is killed", "20 from the active one, then 20 from the standby", stood_in),
)
