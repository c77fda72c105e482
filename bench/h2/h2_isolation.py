"""Streams that hold something, and the others of their connection: one whose backend hangs, and one whose client
has closed its window. The memory of responses that nobody reads."""

import asyncio
from statistics import median

from bench.h2.h2_client import H2Wire
from bench.h2.h2_stage import bursts, hold, stage
from bench.lab.procfs import KIB, memory
from bench.report import SceneFact

STREAMS = 98
"Besides the two that hold something."
EVERY = 0.1
"Seconds from one burst of streams to the next."
SMALL_WINDOW = 65_535
UNREAD = 20
"Connections of which each has a response that nobody reads."
SETTLE = 1.0
RATIO_GOAL, MEMORY_GOAL = 1.1, 512.0


async def isolation(rounds: int, seconds: float) -> list[SceneFact]:
    """Raises BenchFailed."""
    ratios, calm_ms, held_ms = [], [], []
    async with stage() as styx:
        for _ in range(rounds + 1):  # the first one warms up
            calm = await H2Wire.open(styx.server.port, window=SMALL_WINDOW)
            calm_ms.append((await bursts(calm, STREAMS, EVERY, seconds)).p99_ms)
            calm.close()
            held = await H2Wire.open(styx.server.port, window=SMALL_WINDOW)
            hold(held, "/hang")
            large = hold(held, "/large")
            await held.until(lambda: len(large.body) >= SMALL_WINDOW)  # noqa: B023 - it is awaited here
            held_ms.append((await bursts(held, STREAMS, EVERY, seconds)).p99_ms)
            held.close()
            ratios.append(held_ms[-1] / calm_ms[-1])
        lines = [
            SceneFact(
                "isolation",
                f"p99 of {STREAMS} streams beside a hanging and an unread one",
                f"{median(held_ms[1:]):.2f} / {median(calm_ms[1:]):.2f} ms: {median(ratios[1:]):.2f} x",
                f"<= {RATIO_GOAL:g} x",
                median(ratios[1:]) <= RATIO_GOAL,
            )
        ]
        lines.append(await _unread(styx.server.port, styx.server.pid))
    return lines


async def _unread(port: int, pid: int) -> SceneFact:
    """What a large response that nobody reads holds in memory."""
    wires = [await H2Wire.open(port, window=SMALL_WINDOW) for _ in range(UNREAD)]
    await asyncio.sleep(SETTLE)
    before = memory(pid).anonymous
    for wire in wires:
        large = hold(wire, "/large")
        await wire.until(lambda: len(large.body) >= SMALL_WINDOW)  # noqa: B023 - it is awaited here
    await asyncio.sleep(SETTLE)
    grown = (memory(pid).anonymous - before) / UNREAD / KIB
    for wire in wires:
        wire.close()
    return SceneFact(
        "isolation",
        "memory of an unread response of 64 MiB",
        f"{grown:.0f} KiB",
        f"< {MEMORY_GOAL:g} KiB",
        grown < MEMORY_GOAL,
    )
