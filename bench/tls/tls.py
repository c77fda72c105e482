"""Runs the scenes of `tls`.

speed    CPU per request over TLS beside nginx and HAProxy, kept and new connections
idle     memory of an idle connection
flood    2,000 hellos a second for made-up names beside 300 requests a second
names    100,000 names from files
fuzz     the reader of hellos and the transport, for `--seconds`
"""

import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from bench.report import BenchReport, PartsReport
from bench.tls import hello_flood, idle_connections, many_names, tls_fuzz, tls_speed

SCENES = ("speed", "idle", "flood", "names", "tls-fuzz")


@dataclass(frozen=True, kw_only=True, slots=True)
class TlsPlan:
    """What is played."""

    scenes: tuple[str, ...] = SCENES
    rounds: int = 3
    "Of `speed` and `flood`."
    seconds: float = 4.0
    "Of each measurement of `speed`; of each phase of `flood`, three times as long; of `tls-fuzz`, as it is."
    seed: int | None = None
    "Of `tls-fuzz`."
    names: int = many_names.NAMES


async def run(plan: TlsPlan) -> PartsReport:
    """Raises BenchFailed."""
    scenes: dict[str, Callable[[Path], Awaitable[BenchReport]]] = {
        "speed": lambda directory: tls_speed.play(directory, rounds=plan.rounds, seconds=plan.seconds),
        "idle": lambda directory: idle_connections.play(directory),
        "flood": lambda directory: hello_flood.play(directory, rounds=plan.rounds, seconds=3 * plan.seconds),
        "names": lambda directory: many_names.play(directory, names=plan.names),
        "tls-fuzz": lambda directory: tls_fuzz.play(seconds=plan.seconds, seed=plan.seed),
    }
    report = PartsReport()
    for scene in plan.scenes:
        with tempfile.TemporaryDirectory(prefix="styx-tls-") as name:
            report.parts.append(await scenes[scene](Path(name)))
    return report
