"""Sends thousands of mutated requests and responses per second through a real styx, with legal ones among them.

fuzzed clients ──►      ──► recording backend    reads strictly, responds by script
                   styx
honest clients ──►      ──► the same connections, and a steady backend for what may not be sent twice

Every message comes from a loopback address of its own, so each request that arrives can be held against the bytes
of exactly its client. bench/fuzz/fuzz_oracles.py says what must hold.
"""

import asyncio
import contextlib
import importlib
import itertools
import random
import shutil
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from bench.fuzz.fuzz_client import Line, Received, connect, read_responses
from bench.fuzz.fuzz_honest import Honest
from bench.fuzz.fuzz_oracles import HANG, Fault, judge
from bench.fuzz.fuzz_report import KEPT, Finding, FuzzReport
from bench.fuzz.fuzz_seeds import Kind, Message, Seeds, make_message
from bench.fuzz.mutations import sent
from bench.fuzz.recording_backend import Arrival, RecordingBackend
from bench.fuzz.strict_reader import ResponseMessage, read_requests
from bench.lab.procfs import Cores, memory
from bench.lab.programs import BenchFailed
from bench.lab.styx_under_test import StyxUnderTest, styx_under_test
from bench.stubs.any_host_routes import routes_to

WARM_UP_MOST, WARM_UP_PART = 20.0, 0.1
LEAVES = 4.0
"Seconds after which everything that a message caused has happened: the longest of the timeouts below, and a sweep."
GRACE = 15.0
"Seconds after the last message in which styx must let go of every connection."
LINGER, LONG_LINGER = 0.02, 3.5
"Seconds for which a client waits for what need not come; now and then until the deadlines of styx pass."
LONGEST_SEED = 4096
"Bytes; longer cases of the corpus are about limits, and cost the fuzzer time."
HONEST = 2
"Clients that ask legal requests all the time."
TUNNEL = 0.1
"Seconds for which a client waits for the end of a tunnel."
EACH = 6
"After so many messages a worker sends a legal request."
SETTINGS = """\
timeouts: {head: 2s, body: 3s, keep_alive: 5s, write_stall: 3s,
  first_byte: 3s, first_byte_cold: 3s, between_bytes: 3s, tunnel: 3s}
routes: {capacity: 1000, unknown_host_capacity: 1000}
retries: {failed_ratio: 100, failed_per_second: 1000, failed_cap: 10000, unprocessed_per_second: 1000}
"""
"Short deadlines, so that they are met often; budgets that never run out; bounded caches that are full soon."


@dataclass(frozen=True, kw_only=True, slots=True)
class FuzzPlan:
    """How much is sent."""

    seconds: float = 600.0
    seed: int = 0
    "0 = by chance."
    connections: int = 32
    replay: Path | None = None
    "Send this one message instead, `connections` times."


@dataclass(slots=True)
class _Sent:
    """A message that was sent, waiting to be judged."""

    message: Message
    received: Received
    at: float


class Fuzzer:
    """One run against one styx."""

    name = "fuzz"
    listener = ""
    "Settings of the listener besides its address."

    def __init__(self, plan: FuzzPlan, report: FuzzReport, keep: Path) -> None:
        self.plan = plan
        self.report = report
        self.backend = RecordingBackend(self.unlawful)
        self.steady = RecordingBackend(self.unlawful)
        self._keep = keep
        self._waiting: deque[_Sent] = deque()
        self._numbers = itertools.count(1)
        self.seeds = load_seeds()
        self.random = random.Random(report.seed)

    # one message

    def next_message(self) -> Message:
        number = next(self._numbers)
        replay = self.plan.replay
        if replay is None:
            return self.make(number)
        message = msgspec.json.decode(replay.read_bytes(), type=Message)
        message.number = number
        return message

    def make(self, number: int) -> Message:
        """The message of this number."""
        return make_message(self.report.seed, number, self.seeds)

    def faults(self, message: Message, received: Received, arrivals: list[Arrival]) -> list[Fault]:
        """What is wrong about one message."""
        return judge(message, received, arrivals)

    def honest(self, port: int, address: str) -> Honest:
        """A client that sends legal requests."""
        return Honest(port, address, [self.backend, self.steady])

    async def send(self, port: int, message: Message) -> None:
        """From its own address, through to the end of its connection."""
        address = address_of(message.number)
        if message.kind is not Kind.REQUEST:
            self.backend.scripts[address] = message.backend
        if message.hasty:
            self.backend.hasty.add(address)
        received = await self.talk(port, address, message)
        self.report.messages[message.kind] += 1
        self.report.statuses.update(status_of(response) for response in received.responses)
        if not received.responses:
            self.report.statuses[f"no response, {received.end}"] += 1
        self._waiting.append(_Sent(message, received, time.monotonic()))

    async def talk(self, port: int, address: str, message: Message) -> Received:
        """Play the part of the client, and wait for what must come back."""
        reading = read_requests(sent(message.client))
        methods = [request.method for request in reading.requests]
        upgrades = frozenset[bytes]().union(*(request.upgrades for request in reading.requests))

        def read(line: Line | Received) -> tuple[list[ResponseMessage], str]:
            return read_responses(bytes(line.data), methods, ended=line.end == "eof", upgrades=upgrades)

        def enough(line: Line, least: int) -> bool:
            return sum(response.whole for response in read(line)[0]) >= least

        async def wait(line: Line) -> None:
            wanted = len(reading.whole)
            if upgrades:
                await line.until(lambda _: False, _time_limit(self.random) + TUNNEL)
            elif wanted:
                await line.until(lambda _: enough(line, wanted), HANG)
            if (not upgrades and wanted < len(reading.requests)) or reading.fault or not wanted:
                await line.until(lambda _: enough(line, wanted + 1), _time_limit(self.random))

        received = await self.converse(port, address, message, wait)
        received.responses, received.fault = read(received)
        return received

    async def converse(
        self, port: int, address: str, message: Message, wait: Callable[[Line], Awaitable[None]]
    ) -> Received:
        """Play the client's script on a connection of its own; what came, not yet read as responses. `wait`: for
        what must come back, unless the script itself has ended the connection."""
        began = time.monotonic()
        try:
            line = await connect(port, address)
        except OSError as error:
            self.note(Finding("connect", f"{type(error).__name__}: {error}", message.number))
            return Received(b"", "open", 0.0)
        if not await line.play(message.client):
            await wait(line)
        seconds = time.monotonic() - began
        received = Received(bytes(line.data), line.end, seconds, dawdled=line.dawdled)
        if line.transport is not None:
            line.transport.abort()
        return received

    # judging

    async def judging(self) -> None:
        """Judges what was sent a while ago, for ever."""
        while True:
            await asyncio.sleep(0.1)
            self.judge_until(time.monotonic() - LEAVES)

    def judge_until(self, moment: float) -> None:
        while self._waiting and self._waiting[0].at < moment:
            entry = self._waiting.popleft()
            address = address_of(entry.message.number)
            self.backend.scripts.pop(address, None)
            self.backend.hasty.discard(address)
            arrivals = [*self.backend.arrivals.pop(address, []), *self.steady.arrivals.pop(address, [])]
            for fault in self.faults(entry.message, entry.received, arrivals):
                self.note(Finding(fault.kind, fault.words, entry.message.number), entry.message)

    def judge_rest(self) -> None:
        """When nothing is under way any more: what arrived so late, or from so strange a client, that it was not
        held against any message."""
        self.judge_until(time.monotonic())
        for client, arrivals in {**self.steady.arrivals, **self.backend.arrivals}.items():
            text = ", ".join(f"{arrival.request.method!r} {arrival.request.target[:100]!r}" for arrival in arrivals)
            self.note(Finding("stray", f"from {client!r}: {text}", number_of(client)))

    def unlawful(self, client: str, kind: str, words: str) -> None:
        """The backend got what it should not have."""
        number = number_of(client)
        message = None
        if number:
            message = next((entry.message for entry in self._waiting if entry.message.number == number), None)
            message = message or self.make(number)
        self.note(Finding(kind, f"{client}: {words}", number), message)

    def note(self, finding: Finding, message: Message | None = None) -> None:
        """Count it; keep the first few of a kind, with the message in a file."""
        self.report.found[finding.kind] += 1
        if self.report.found[finding.kind] > KEPT:
            return
        if message is not None:
            path = self._keep / f"{finding.kind}-{finding.number}.json"
            path.write_bytes(msgspec.json.format(msgspec.json.encode(message)))
            finding.file = f"python -m bench {self.name} --replay {path}"
        self.report.findings.append(finding)

    # the run

    async def worker(self, port: int, honest: Honest, until: float) -> None:
        """Sends messages one after the other; the next legal request works, always."""
        while time.monotonic() < until:
            for _ in range(EACH):
                await self.send(port, self.next_message())
            if fault := await honest.send_request():
                self.note(Finding(fault.kind, fault.words))
            else:
                self.report.honest += 1

    async def honest_worker(self, honest: Honest, until: float) -> None:
        """Legal requests all the time."""
        while time.monotonic() < until:
            if fault := await honest.send_request():
                self.note(Finding(fault.kind, fault.words))
            else:
                self.report.honest += 1
            await asyncio.sleep(0.01)


def _time_limit(rand: random.Random) -> float:
    return LONG_LINGER if rand.random() < 0.002 else LINGER


def address_of(number: int) -> str:
    """Each message has its own; 127.0.x.y is for others."""
    return f"127.{1 + (number >> 16) % 254}.{number >> 8 & 255}.{number & 255}"


def number_of(address: str) -> int:
    """Back again; 0 = no message's."""
    parts = address.split(".")
    if len(parts) != 4 or parts[0] != "127" or not all(part.isdigit() for part in parts) or parts[1] == "0":
        return 0
    return (int(parts[1]) - 1) << 16 | int(parts[2]) << 8 | int(parts[3])


def status_of(response: ResponseMessage) -> str:
    """For the table."""
    return f"{response.status} {response.value(b'x-styx-error').decode('latin-1')}".strip()


def load_seeds() -> Seeds:
    """Those of the fuzzer, and the corpus of the tests if it is there."""
    try:
        corpus = importlib.import_module("tests.corpus.corpus_files").load_corpus()
    except ImportError:
        corpus = []
    cases = [case for case in corpus if len(case.data) < LONGEST_SEED]
    return Seeds.with_corpus(
        [case.data for case in cases if case.kind == "request"],
        [case.data for case in cases if case.kind != "request"],
    )


async def run(plan: FuzzPlan, kind: type[Fuzzer] = Fuzzer) -> FuzzReport:
    """Raises BenchFailed."""
    report = FuzzReport(plan.seed or random.SystemRandom().randrange(1, 1 << 32), plan.seconds)
    print(f"{kind.name}: seed {report.seed}", flush=True)  # now: a run that breaks off can be repeated too
    keep = Path(tempfile.mkdtemp(prefix="styx-fuzz-"))
    fuzzer = kind(plan, report, keep)
    async with _surroundings(fuzzer, keep) as styx:
        await _play(fuzzer, styx)
        fuzzer.judge_rest()
        report.arrived = fuzzer.backend.heads
        _read_log(fuzzer, styx)
    if not report.found:
        shutil.rmtree(keep)
    return report


async def _play(fuzzer: Fuzzer, styx: StyxUnderTest) -> None:
    """Everybody at once, until the time is up and styx has let go of all of them."""
    plan, report, port = fuzzer.plan, fuzzer.report, styx.server.port
    honest = [fuzzer.honest(port, f"127.0.1.{n}") for n in range(1, plan.connections + HONEST + 1)]
    for one in honest:
        if fault := await one.send_request():
            raise BenchFailed(f"not even the first legal request worked: {fault.words}")
    began = time.monotonic()
    until, warm = began + plan.seconds, began + min(WARM_UP_MOST, WARM_UP_PART * plan.seconds)
    watching = [
        asyncio.ensure_future(fuzzer.judging()),
        asyncio.ensure_future(_sample(report, styx.server.pid, warm)),
    ]
    try:
        async with asyncio.TaskGroup() as group:
            for one in honest[HONEST:]:
                group.create_task(fuzzer.worker(port, one, until))
            for one in honest[:HONEST]:
                group.create_task(fuzzer.honest_worker(one, until))
        report.seconds = time.monotonic() - began
        for one in honest:
            one.leave()
        await _let_go(fuzzer, styx)
    finally:
        for task in watching:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def _surroundings(fuzzer: Fuzzer, directory: Path) -> AsyncIterator[StyxUnderTest]:
    def port_of(hostname: str) -> int:
        return fuzzer.steady.port if hostname == "steady.test" else fuzzer.backend.port

    async with (
        fuzzer.backend.serving(),
        fuzzer.steady.serving(),
        routes_to(port_of) as url,
        styx_under_test(directory, url, SETTINGS, core=Cores.split().proxy, listener=fuzzer.listener) as styx,
    ):
        yield styx


async def _sample(report: FuzzReport, pid: int, start: float) -> None:
    await asyncio.sleep(max(0.0, start - time.monotonic()))
    while True:
        report.samples.append(memory(pid).resident)
        await asyncio.sleep(1.0)


async def _let_go(fuzzer: Fuzzer, styx: StyxUnderTest) -> None:
    """styx holds nothing of all this after a while."""
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline:
        try:
            counts = await styx.counts()
        except (aiohttp.ClientError, TimeoutError) as error:
            fuzzer.note(Finding("admin", f"the admin server does not respond: {error}"))
            return
        if not counts.exchanges and not counts.client_connections and not counts.links_busy:
            return
        await asyncio.sleep(0.25)
    fuzzer.note(Finding("held", f"{GRACE:g} s after the last message styx holds {counts}"))


def _read_log(fuzzer: Fuzzer, styx: StyxUnderTest) -> None:
    if not memory(styx.server.pid).resident:
        fuzzer.note(Finding("died", "styx is not running any more"))
    for line in styx.output.read_text(errors="replace").splitlines():
        try:
            event = msgspec.json.decode(line)
            level = event["level"]
        except (msgspec.DecodeError, KeyError, TypeError):
            level = "error"
        if level in ("error", "critical") or "Traceback" in line:
            fuzzer.note(Finding("log", line))
        else:
            fuzzer.report.log_lines += 1
