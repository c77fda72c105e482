"""Scene `flood` of `routes`: made-up hostnames beside normal traffic, from one client, then from thousands."""

import asyncio
from collections import Counter
from statistics import median

from bench.lab import peers
from bench.lab.procfs import Cores, memory
from bench.lab.wrk import Wrk
from bench.report import SceneFact
from bench.routing.route_stage import (
    CONCURRENCY,
    FLOOD,
    FLOOD_CONNECTIONS,
    FLOOD_ROUNDS,
    KNOWN,
    MEMORY_GOAL,
    MIB,
    NORMAL,
    P99_GOAL,
    RATE,
    RoutesPlan,
    running_stage,
    statuses_text,
)

MADE_UP = """
local n = 0
math.randomseed({seed})
request = function()
  n = n + 1
  wrk.headers["Host"] = string.format("%x-%d.made-up.test", math.random(0, 2147483647), n)
  {address}
  return wrk.format()
end
function delay() return math.random(0, 2 * {delay}) end
"""
ADDRESS = (
    'wrk.headers["X-Forwarded-For"] = string.format("10.%d.%d.%d", math.random(0,255), math.random(0,255), '
    "math.random(0,255))"
)


async def floods(plan: RoutesPlan) -> list[SceneFact]:
    cores = Cores.split()
    lines: list[SceneFact] = []
    with cores.reserved():
        for clients in ("one client", "many clients"):
            lines += await _flood_by(clients, plan, cores.proxy)
    return lines


async def _flood_by(clients: str, plan: RoutesPlan, core: int) -> list[SceneFact]:
    many = clients == "many clients"
    async with running_stage(behind_proxy=many, core=core) as stage:
        lua = MADE_UP.format(
            seed=plan.seed, address=ADDRESS if many else "", delay=round(1000 * FLOOD_CONNECTIONS / FLOOD)
        )
        wrk = Wrk(stage.directory, connections=FLOOD_CONNECTIONS, headers={}, lua=lua, any_status=True)
        await stage.play("warm-up", NORMAL, 4 * RATE, 3.0)
        begun, memory_before = asyncio.get_running_loop().time(), memory(stage.styx.server.pid).resident
        known_before = sum(stage.core.lookups[host] for host in NORMAL)
        p99s: list[tuple[float, float]] = []
        rates: list[float] = []
        wrong: Counter[str] = Counter()
        # The flood takes time of the core of clients and containers as well: compare with a flood elsewhere.
        async with peers.backends(stage.directory) as elsewhere:
            for _ in range(FLOOD_ROUNDS):
                _, alone = await asyncio.gather(
                    wrk.run(f"http://127.0.0.1:{elsewhere[0]}/", plan.seconds),
                    stage.play("alone", NORMAL, RATE, plan.seconds),
                )
                load, beside = await asyncio.gather(
                    wrk.run(f"http://127.0.0.1:{stage.styx.server.port}/", plan.seconds),
                    stage.play("beside", NORMAL, RATE, plan.seconds, seed=2),
                )
                p99s.append((beside.p99_ms, alone.p99_ms))
                rates.append(load.rate)
                wrong.update({status: n for status, n in beside.statuses.items() if status != "200"})
        grown = memory(stage.styx.server.pid).resident - memory_before
        kept = await stage.metric("styx_routes")
        known_requested = sum(stage.core.lookups[host] for host in NORMAL) - known_before
    ratio, rate = median(with_it / without for with_it, without in p99s), stage.core.most_in_a_second(begun)
    scene = f"flood by {clients}"
    return [
        SceneFact(scene, "made-up names a second", ", ".join(f"{rate:.0f}" for rate in rates), "", None),
        SceneFact(
            scene,
            "p99 of known hostnames: ms beside it / beside one elsewhere",
            f"{', '.join(f'{a:.1f}/{b:.1f}' for a, b in p99s)}: x {ratio:.2f}",
            f"<= {P99_GOAL}",
            ratio <= P99_GOAL,
        ),
        SceneFact(scene, "known hostnames, not 200", statuses_text(wrong), "nothing", not wrong),
        SceneFact(scene, "known hostnames still known", f"{kept:.0f}", str(KNOWN), kept == KNOWN),
        SceneFact(scene, "lookups of them meanwhile", str(known_requested), "", None),
        SceneFact(
            scene,
            "lookups in one second",
            str(rate),
            "<= 450 (twice limits.unknown_hosts, and bursts)",
            rate <= 450,
        ),
        SceneFact(scene, "lookups in all", str(sum(m >= begun for m in stage.core.moments)), "", None),
        SceneFact(
            scene,
            "in flight at once",
            str(stage.core.most_in_flight),
            f"<= {CONCURRENCY}",
            stage.core.most_in_flight <= CONCURRENCY,
        ),
        SceneFact(
            scene, "memory grown", f"{grown / MIB:.1f} MiB", f"< {MEMORY_GOAL // MIB} MiB", grown < MEMORY_GOAL
        ),
    ]
