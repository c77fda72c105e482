"""No POST is executed twice, whatever fails: containers, connections and workers.

10,000 POSTs with bodies of up to 40,000 bytes, at random and not waiting for responses, to six containers, through
two workers, with `--tls` over TLS on both sides. To one request in six something happens (see
`stub_containers.FAULTS`); containers are full at times; one after the other is killed for two seconds; and every
five seconds styx is given another number of workers. The containers count by the order ids that requests carry.
"""

import asyncio
import contextlib
import os
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from bench.balancing.balance import containers
from bench.balancing.balancers import HOST
from bench.lab.load_generator import LoadResult, Schedule
from bench.lab.load_process import run_schedule
from bench.lab.servers import STYX_YAML, free_ports, serving
from bench.lab.start_signal import StartSignal
from bench.report import verdict
from bench.stubs.fixed_routes import backend_entry, fixed_routes, served_routes
from bench.stubs.stub_containers import Seen, StubPlan, Trouble
from edge.platform.pki import PocketPki

CONTAINERS = 6
RATE = 500.0
FAULTY = 1 / 6
KILL_EVERY, KILLED_FOR = 3.0, 2.0
RELOAD_EVERY = 5.0
GOAL = 10_000
BACKENDS = """\
backends: {{tls: {{ca: "{ca}", certificate: "{edge[0]}", key: "{edge[1]}"}}}}
limits: {{handshakes_per_client: 0}}
"""
"With `--tls`; all requests come from one address."


@dataclass(frozen=True, kw_only=True, slots=True)
class OncePlan:
    """How long it goes on."""

    seconds: float = 22.0
    seed: int = 3
    tls: bool = False
    "Between clients and styx, and between styx and containers."


@dataclass(slots=True)
class OnceReport:
    """What clients and containers saw."""

    load_result: LoadResult
    seen: Seen
    reloads: int
    twice: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.twice = {order: times for order, times in self.seen.executed.items() if times > 1}

    @property
    def unknown(self) -> int:
        """Answered 200, and yet executed by nobody."""
        return sum(order not in self.seen.executed for order in self.load_result.completed)

    @property
    def good(self) -> bool:
        return not self.twice and not self.unknown and self.reloads > 0

    @property
    def raw(self) -> object:
        return {"statuses": self.load_result.statuses, "twice": self.twice, "reloads": self.reloads}

    def text(self) -> str:
        statuses = ", ".join(f"{n} x {status}" for status, n in Counter(self.load_result.statuses).most_common(8))
        return (
            f"{self.load_result.offered} POSTs, {sum(self.seen.attempts)} attempts, {self.reloads} reloads\n"
            f"{statuses}\n"
            f"executed: {len(self.seen.executed)}; twice: {len(self.twice)}; 200 but not executed: "
            f"{self.unknown}; goal 0 and 0: {verdict(met=self.good)}\n"
        )


async def run(plan: OncePlan) -> OnceReport:
    """Raises BenchFailed."""
    with tempfile.TemporaryDirectory(prefix="styx-once-") as name:
        directory = Path(name)
        ports, (port, admin_port) = free_ports(CONTAINERS), free_ports(2)
        start_signal = StartSignal(directory / "begins")
        kills = [1.0 + KILL_EVERY * n for n in range(int(plan.seconds / KILL_EVERY))]
        troubles = [Trouble(n % CONTAINERS, "dead", at, at + KILLED_FOR) for n, at in enumerate(kills)]
        pki = await asyncio.to_thread(_pki, directory) if plan.tls else None
        stubs = StubPlan(ports, troubles, 0.0, str(start_signal.file), FAULTY)
        if pki is not None:
            files = [pki.for_container(f"b{n}") for n in range(1, CONTAINERS + 1)]
            pairs = [(str(of.certificate), str(of.key)) for of in files]
            stubs = msgspec.structs.replace(stubs, certificates=pairs, client_ca=str(pki.container_ca))
        schedule = Schedule(
            ports=[port],
            host=HOST,
            path="/",
            rate=RATE,
            seconds=plan.seconds,
            seed=plan.seed,
            name="once",
            post_every=1,
            body=40_000,
            demand_ms=35.0,
            begins=str(start_signal.file),
            ca="" if pki is None else str(pki.site_ca),
        )
        async with containers(stubs, directory) as running, _core_api(ports, pki) as url:
            text = STYX_YAML.format(
                port=port, core_api_url=url, admin_port=admin_port, log="/dev/null", flush_interval="1s"
            )
            if pki is not None:
                text = text.replace(f':{port}"}}]', f':{port}", tls: true}}]', 1) + BACKENDS.format(
                    ca=pki.container_ca, edge=pki.edge
                )
            config = directory / "styx.yaml"
            configure(config, text, 2)
            command = [sys.executable, "-m", "edge", "serve", "-c", str(config)]
            async with serving("styx", command, directory=directory, port=port) as server:
                reloading = asyncio.create_task(_reload(server.pid, config, text, (3, 2)))
                load_result, _ = await asyncio.gather(run_schedule(schedule, directory), start_signal.send())
                reloading.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reloading
                output = (directory / "styx.out").read_text()
            seen = await running.seen()
    return OnceReport(load_result, seen, len(re.findall(r'"code": ?"reloaded"', output)))


def _pki(directory: Path) -> PocketPki:
    pki = PocketPki(directory / "pki")
    pki.write()
    return pki


def _core_api(ports: Sequence[int], pki: PocketPki | None) -> contextlib.AbstractAsyncContextManager[str]:
    if pki is None:
        return fixed_routes("balance", ports)
    backends = [{**backend_entry(f"b{n}", port, f"srv-{n}"), "tls": True} for n, port in enumerate(ports, 1)]

    def certificate_of(hostname: str) -> dict[str, object]:
        pair = pki.for_site(hostname)
        return {"names": [hostname], "generation": 1, "certificates": [pair._asdict()]}

    return served_routes(lambda hostname: ("balance", backends), certificate_of)


def configure(config: Path, text: str, workers: int) -> None:
    text = text.replace("workers: 1", f"workers: {workers}").replace("level: warning", "level: info")
    config.write_text(text)


async def _reload(master: int, config: Path, text: str, workers: Sequence[int]) -> None:
    """In turns, until it is cancelled."""
    turn = 0
    while True:
        await asyncio.sleep(RELOAD_EVERY)
        configure(config, text, workers[turn % len(workers)])
        os.kill(master, signal.SIGHUP)
        turn += 1
