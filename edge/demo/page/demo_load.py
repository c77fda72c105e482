"""The load generator of the demo: open-loop GETs and some POSTs at an adjustable rate, to the sites of the
platform.

Arrivals are random and do not wait for responses (Poisson). What is in flight is bounded: beyond that, requests are
not sent, and counted.
"""

import asyncio
import random
import ssl
from collections import Counter, deque
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Final

import aiohttp

from edge.demo.page.demo_records import DemoTraffic
from edge.demo.page.request_dots import EndedRequest

MOST_RATE: Final = 300
"Requests per second; client, platform and page share one process."
MOST_IN_FLIGHT: Final = 256
LATE: Final = 0.5
"Seconds behind schedule after which the missed requests are given up."
RESPONSE_TIMEOUT: Final = 30.0
LOOK_EVERY: Final = 0.5
"Seconds between two looks at which sites there are."
POST_EVERY: Final = 10
POST_BYTES: Final = 2048
AGENT: Final = "demo-load/1"

LOADS: Final = {"off": 0, "visits": 0, "light": 1, "heavy": 4}
"Shares of the load by the name of the choice; `visits` are a few requests now and then, whatever the rate is."
REFUSALS: Final = frozenset({"all_refused", "site_limit", "edge_overloaded"})
"X-Styx-Error of responses that say that there is no room now."
VISIT_EVERY: Final = 18.0
"Mean seconds between two visits."
VISIT_REQUESTS: Final = 5
KEPT: Final = 2000
"Latencies that percentiles are made of."


def outcome_of(status: int, error: str, attempt: int) -> str:
    """What is made of one response; status 0 = there was none. Pure."""
    if 200 <= status < 300:
        return "retried" if attempt > 1 else "ok"
    return "refused" if status == 503 and error in REFUSALS else "failed"


def percentile(sorted_values: list[float], part: float) -> float | None:
    """The value below which this part is, without interpolation; None if there are none."""
    return sorted_values[int(part * (len(sorted_values) - 1))] if sorted_values else None


class TrafficCount:
    """Counts of what came of the load since the start."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.sent = 0
        self.skipped = 0
        self.last_failure = ""
        self._latencies: deque[float] = deque(maxlen=KEPT)
        self._second: Counter[str] = Counter()
        self.rates: Mapping[str, float] = {}
        "Requests per second, by site."
        self._since = 0.0

    def record_sent(self, site: str) -> None:
        self.sent += 1
        self._second[site] += 1

    def record_end(self, ended: EndedRequest) -> None:
        self.outcomes[ended.outcome] += 1
        if ended.outcome in ("ok", "retried"):
            self._latencies.append(1000 * ended.seconds)
        elif ended.outcome == "failed":
            self.last_failure = f"{ended.what} for {ended.site}"

    def roll(self, now: float) -> None:
        """Compute the rates, once a second."""
        if now - self._since >= 1.0:
            self.rates = {site: count / (now - self._since) for site, count in self._second.items()}
            self._second.clear()
            self._since = now

    def now(self, wanted: int) -> DemoTraffic:
        times = sorted(self._latencies)
        return DemoTraffic(
            wanted=wanted,
            rate=round(sum(self.rates.values()), 1),
            sent=self.sent,
            ok=self.outcomes["ok"],
            retried=self.outcomes["retried"],
            refused=self.outcomes["refused"],
            failed=self.outcomes["failed"],
            skipped=self.skipped,
            p50=percentile(times, 0.5),
            p95=percentile(times, 0.95),
            last_failure=self.last_failure,
        )


class DemoLoad:
    """Sends requests to the styx at `port`, from `async with` on.

    `hostnames`: the sites that there are now, with a hostname of each. `on_end` is called with each ended request.
    `is_wanted`: asked before each request; the load stands still while nobody looks.
    """

    def __init__(
        self,
        port: int,
        hostnames: Callable[[], Mapping[str, str]],
        *,
        on_end: Callable[[EndedRequest], None],
        is_wanted: Callable[[], bool] = lambda: True,
        rand: random.Random | None = None,
        trusted: str | None = None,
    ) -> None:
        """`trusted`: file with the authority of the certificates; None = styx speaks plain HTTP."""
        self.rate = 0
        "Requests per second that are wanted."
        self.choice: dict[str, str] = {}
        "By site: one of LOADS; absent = light."
        self.count = TrafficCount()
        self._open_session = partial(_session_with, port, trusted)
        self._hostnames = hostnames
        self._on_end = on_end
        self._is_wanted = is_wanted
        self._rand = rand or random.Random()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession
        self._runner: asyncio.Task[None] | None = None
        self._next_visit: dict[str, float] = {}
        self._sites: Mapping[str, str] = {}
        self._looked_at = float("-inf")

    async def __aenter__(self) -> "DemoLoad":
        self._session = self._open_session()
        # Otherwise aiohttp silently retries a GET whose connection was dropped, and hides the failure.
        self._session._retry_connection = False
        self._runner = asyncio.get_running_loop().create_task(self._run(), name="demo load")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        self._runner.cancel()
        for request in self._in_flight:
            request.cancel()
        await asyncio.gather(self._runner, *self._in_flight, return_exceptions=True)
        await self._session.close()

    async def settle(self) -> None:
        """Stop sending, and wait until nothing is in flight."""
        self.rate = 0
        while self._in_flight:
            await asyncio.wait(self._in_flight)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            now = loop.time()
            self.count.roll(now)
            if now - self._looked_at >= LOOK_EVERY:
                self._sites, self._looked_at = self._hostnames(), now
            if not self._is_wanted():
                due = now + 0.1
            else:
                self._visit(now)
                if self.rate <= 0:
                    due = now + 0.1
                while self.rate > 0 and due <= now:
                    self._send_one()
                    due += self._rand.expovariate(self.rate)
                    if due < now - LATE:
                        self.count.skipped += round(self.rate * (now - due))
                        due = now
            # No longer than a moment, so that another rate takes effect at once.
            await asyncio.sleep(min(max(due - loop.time(), 0.001), 0.1))

    def _send_one(self) -> None:
        sites = [site for site in self._sites if LOADS[self.choice.get(site, "light")]]
        if not sites:
            return
        weights = [LOADS[self.choice.get(site, "light")] for site in sites]
        self._send(self._rand.choices(sites, weights)[0])

    def _visit(self, now: float) -> None:
        """A few requests for each site that is only visited, when they are due."""
        if self.rate <= 0:
            return
        for site in self._sites:
            if self.choice.get(site) != "visits":
                continue
            if now >= self._next_visit.get(site, 0.0):
                self._next_visit[site] = now + self._rand.uniform(0.7, 1.3) * VISIT_EVERY
                for _ in range(VISIT_REQUESTS):
                    self._send(site)

    def _send(self, site: str) -> None:
        if len(self._in_flight) >= MOST_IN_FLIGHT:
            self.count.skipped += 1
            return
        self.count.record_sent(site)
        posts = self.count.sent % POST_EVERY == 0
        request = asyncio.get_running_loop().create_task(self._request(site, posts=posts))
        self._in_flight.add(request)
        request.add_done_callback(self._in_flight.discard)

    async def _request(self, site: str, *, posts: bool) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        method, data = ("POST", bytes(POST_BYTES)) if posts else ("GET", None)
        status, error, container, request_id, attempt = 0, "", "", "", 1
        host = self._sites[site]
        try:
            async with self._session.request(
                method, "/", headers={"Host": host}, data=data, allow_redirects=False, server_hostname=host
            ) as response:
                await response.read()
                status, headers = response.status, response.headers
                error, container = headers.get("X-Styx-Error", ""), headers.get("X-Container", "")
                request_id = headers.get("X-Request-Id", "")
                attempt = int(headers.get("X-Container-Attempt") or 1)
        except (aiohttp.ClientError, TimeoutError, ValueError) as failure:
            error = type(failure).__name__
        outcome = outcome_of(status, error, attempt)
        words = f"{method} {status or 'cut'} {error}".strip()
        ended = EndedRequest(loop.time(), outcome, site, container, request_id, loop.time() - began, words)
        self.count.record_end(ended)
        self._on_end(ended)


def _session_with(port: int, trusted: str | None) -> aiohttp.ClientSession:
    tls = None if trusted is None else ssl.create_default_context(cafile=trusted)
    return aiohttp.ClientSession(
        f"{'http' if tls is None else 'https'}://127.0.0.1:{port}",
        connector=aiohttp.TCPConnector(limit=0, ssl=tls or True),
        timeout=aiohttp.ClientTimeout(total=RESPONSE_TIMEOUT),
        headers={"User-Agent": AGENT},
    )
