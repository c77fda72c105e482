"""CPU per proxied request of styx beside HAProxy and nginx.

    wrk ──► styx | HAProxy | nginx ──► three backends
    core 1         core 0               core 1

Requests per second say how busy the machine was; CPU time per request says what a request costs. Neighbours on the
machine disturb that too (caches, clock), so rounds are interleaved, every figure is compared with its neighbours of
the same round, and the median of those ratios is what counts.
"""

import os
import tempfile
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.lab import peers
from bench.lab.plain_http import Broken, Connection
from bench.lab.procfs import Cores, cpu_seconds
from bench.lab.programs import BenchFailed, need
from bench.lab.servers import Server, styx
from bench.lab.wrk import Heads, Wrk
from bench.report import ratios, table, verdict
from bench.stubs.fixed_routes import fixed_routes

BROWSER = {
    "Host": peers.HOST,
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/137.0.0.0 "
    "Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en-US;q=0.9,en;q=0.8,nl;q=0.7",
    "Cache-Control": "max-age=0",
    "Cookie": "session=5f0c1a7be2d94c6c8f1d; consent=1; _ga=GA1.1.1029384756.1719821000; theme=dark",
    "Referer": f"http://{peers.HOST}/articles/the-way-of-a-request",
    "Sec-CH-UA": '"Chromium";v="137", "Not/A)Brand";v="24"',
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
    "Upgrade-Insecure-Requests": "1",
}
"13 headers of a desktop browser that follows a link."

CHECKS = 60
"Requests to each proxy before anything is measured; the chance that a fair draw misses a backend is 1e-10."
WARM_UP = 1.0
"Seconds of load on each before the first round."


@dataclass(frozen=True, slots=True)
class Body:
    """One kind of requests and responses, and the goal that belongs to it."""

    name: str
    path: str
    content: bytes
    rival: str
    goal: float | None
    "Most CPU of styx, as a multiple of the rival's; None = reported, not judged."
    heads: Heads = Heads.REPEATING


BODIES = (
    Body("tiny body", peers.TINY_PATH, peers.TINY_BODY, "haproxy", 1.6),
    Body("64 KiB body", peers.LARGE_PATH, peers.LARGE_BODY, "nginx", 1.1),
    Body("tiny, sessions", peers.TINY_PATH, peers.TINY_BODY, "haproxy", None, Heads.SESSIONS),
    Body("tiny, unique heads", peers.TINY_PATH, peers.TINY_BODY, "haproxy", None, Heads.UNIQUE),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedPlan:
    """How much is measured."""

    rounds: int = 5
    seconds: float = 4.0
    connections: int = 64


@dataclass(frozen=True, slots=True)
class Sample:
    """One proxy, one body, one round."""

    cpu_us: float
    "CPU per request, in microseconds."
    busy: float
    "Part of its core that the proxy used."
    rate: float
    p99_ms: float


@dataclass(slots=True)
class SpeedReport:
    """By body, then by proxy: one sample for each round."""

    samples: dict[str, dict[str, list[Sample]]] = field(default_factory=dict)

    def add(self, body: Body, proxy: str, sample: Sample) -> None:
        self.samples.setdefault(body.name, {}).setdefault(proxy, []).append(sample)

    def ratios(self, body: Body, rival: str) -> list[float]:
        """CPU of styx as a multiple of the rival's, round by round."""
        ours, theirs = (self.samples[body.name][proxy] for proxy in ("styx", rival))
        return ratios((sample.cpu_us for sample in ours), (sample.cpu_us for sample in theirs))

    def met(self, body: Body) -> bool:
        return body.goal is None or median(self.ratios(body, body.rival)) <= body.goal

    @property
    def good(self) -> bool:
        return all(self.met(body) for body in BODIES)

    def text(self) -> str:
        parts = ["CPU per proxied request"]
        for body in BODIES:
            parts += ["", self._costs(body), "", self._ratios(body)]
        return "\n".join(parts)

    def _costs(self, body: Body) -> str:
        rows = []
        for proxy, samples in self.samples[body.name].items():
            costs = [sample.cpu_us for sample in samples]
            rows.append(
                (
                    proxy,
                    f"{median(costs):.1f}",
                    f"{min(costs):.1f}-{max(costs):.1f}",
                    f"{median(sample.rate for sample in samples):.0f}",
                    f"{median(sample.p99_ms for sample in samples):.1f}",
                    f"{median(sample.busy for sample in samples):.0%}",
                )
            )
        return table((body.name, "µs/request", "min-max", "requests/s", "p99 ms", "core busy"), rows)

    def _ratios(self, body: Body) -> str:
        rows = []
        for rival in ("haproxy", "nginx"):
            of_rounds = self.ratios(body, rival)
            judged = body.goal is not None and rival == body.rival
            goal = (f"<= {body.goal}", verdict(met=self.met(body))) if judged else ("", "")
            rows.append(
                (f"styx / {rival}", f"{median(of_rounds):.2f}", f"{min(of_rounds):.2f}-{max(of_rounds):.2f}", *goal)
            )
        return table((body.name, "median of ratios", "min-max", "goal", ""), rows)


async def run(plan: SpeedPlan) -> SpeedReport:
    """Raises BenchFailed."""
    need("haproxy", "nginx", "taskset", "wrk")
    cores = Cores.split()
    with cores.reserved(), tempfile.TemporaryDirectory(prefix="styx-bench-") as name:
        return await _run(plan, Path(name), cores)


async def _run(plan: SpeedPlan, directory: Path, cores: Cores) -> SpeedReport:
    async with AsyncExitStack() as stack:
        ports = await stack.enter_async_context(peers.backends(directory))
        url = await stack.enter_async_context(fixed_routes("bench", ports))
        setup = peers.ProxySetup(core=cores.proxy)
        proxies = [
            await stack.enter_async_context(styx(directory, url, core=cores.proxy)),
            await stack.enter_async_context(peers.haproxy(directory, ports, setup)),
            await stack.enter_async_context(peers.nginx(directory, ports, setup)),
        ]
        wrk = Wrk(directory, connections=plan.connections, headers=BROWSER)
        for proxy in proxies:
            for body in BODIES:
                await _check(proxy, body)
                await _sample(proxy, body, wrk, WARM_UP)
        report = SpeedReport()
        for number in range(plan.rounds):
            # Each goes first, second and last equally often.
            turn = number % len(proxies)
            for body in BODIES:
                for proxy in proxies[turn:] + proxies[:turn]:
                    report.add(body, proxy.name, await _sample(proxy, body, wrk, plan.seconds))
        return report


async def _check(proxy: Server, body: Body) -> None:
    """Every response is right, and they come from several backends."""
    seen: Counter[str] = Counter()
    try:
        connection = await Connection.open(proxy.port)
        try:
            for _ in range(CHECKS):
                fields = {name: value for name, value in BROWSER.items() if name != "Host"}
                reply = await connection.send_request(peers.HOST, f"GET {body.path}", fields)
                if reply.status != 200 or reply.body != body.content:
                    raise BenchFailed(f"{proxy.name} responded {reply.status} {reply.fields} {reply.body[:200]!r}")
                seen[reply.fields.get("x-styx-backend", "nobody")] += 1
        finally:
            connection.close()
    except Broken as error:
        raise BenchFailed(f"{proxy.name}: {error}") from error
    # HAProxy's leastconn stays with one or two when requests come one by one; under load it uses all.
    if proxy.name == "styx" and len(seen) < 3:
        raise BenchFailed(f"{proxy.name} does not use its three backends: {dict(seen)}")


async def _sample(proxy: Server, body: Body, wrk: Wrk, seconds: float) -> Sample:
    before = cpu_seconds(proxy.pid)
    load = await wrk.run(proxy.url(body.path), seconds, heads=body.heads)
    used = cpu_seconds(proxy.pid) - before
    _take_log(proxy)
    return Sample(1e6 * used / load.requests, used / load.seconds, load.rate, load.p99_ms)


def _take_log(proxy: Server) -> None:
    """The access log was written; empty it, for a run makes gigabytes. All three append, so this is safe."""
    if not proxy.log.exists() or proxy.log.stat().st_size == 0:
        raise BenchFailed(f"{proxy.name} wrote no access log: it had less to do than the others")
    os.truncate(proxy.log, 0)
