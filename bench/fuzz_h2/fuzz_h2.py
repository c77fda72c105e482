"""Sends thousands of mutated sequences of HTTP/2 frames per second through a real styx, with legal ones among them.

As `bench/fuzz`, with the same backend: every connection comes from a loopback address of its own, so each request
that arrives can be held against the frames of exactly its client. bench/fuzz_h2/frame_oracles.py says what must
hold.
"""

import importlib
from functools import cached_property

from bench.fuzz import fuzz
from bench.fuzz.fuzz import Fuzzer, FuzzPlan
from bench.fuzz.fuzz_client import Line, Received
from bench.fuzz.fuzz_honest import Honest
from bench.fuzz.fuzz_oracles import HANG, Fault
from bench.fuzz.fuzz_report import FuzzReport
from bench.fuzz.fuzz_seeds import Message
from bench.fuzz.mutations import sent
from bench.fuzz.recording_backend import Arrival
from bench.fuzz_h2.frame_oracles import as_response, judge
from bench.fuzz_h2.frame_reader import SentReader, read_edge
from bench.fuzz_h2.frame_seeds import corpus_frames, make_sequence
from bench.fuzz_h2.frames import Frame
from bench.fuzz_h2.h2_honest import H2Honest

SLOW = 0.002
"Part of the connections that are left until the deadlines of styx pass."


class H2Fuzzer(Fuzzer):
    """One run over HTTP/2."""

    name = "fuzz-h2"
    listener = "http2: true"

    def make(self, number: int) -> Message:
        return make_sequence(self.report.seed, number, self.corpus, self.seeds)

    @cached_property
    def corpus(self) -> list[list[Frame]]:
        """The sequences of the tests, if they are there."""
        try:
            legal = importlib.import_module("tests.corpus_h2.legal").LEGAL_CASES
            malformed = importlib.import_module("tests.corpus_h2.malformed")
        except ImportError:
            return []
        cases = [*legal, *malformed.CONNECTION_CASES, *malformed.STREAM_CASES]
        found = [corpus_frames(case.steps, bare=case.bare) for case in cases]
        return [frames for frames in found if frames is not None]

    def faults(self, message: Message, received: Received, arrivals: list[Arrival]) -> list[Fault]:
        return judge(message, received, arrivals)

    def honest(self, port: int, address: str) -> Honest:
        return H2Honest(port, address, [self.backend, self.steady])

    async def talk(self, port: int, address: str, message: Message) -> Received:
        reading = SentReader().read(sent(message.client))
        wanted = [number for number, stream in reading.streams.items() if stream.ended and not stream.reset]

        def is_over(data: bytes) -> bool:
            got = read_edge(data)
            return got.goaway not in (None, 0) or all(got.is_over(number) for number in wanted)

        async def wait(line: Line) -> None:
            calm = reading.is_calm and not reading.fault
            await line.until(is_over, HANG if calm and wanted else fuzz.LINGER)
            if self.random.random() < SLOW:
                await line.until(lambda _: False, fuzz.LONG_LINGER)

        received = await self.converse(port, address, message, wait)
        got = read_edge(received.data)
        if got.goaway:
            self.report.statuses[f"GOAWAY {got.goaway}"] += 1
        received.responses = [as_response(stream) for stream in got.streams.values() if stream.status]
        return received


async def run(plan: FuzzPlan) -> FuzzReport:
    """Raises BenchFailed."""
    return await fuzz.run(plan, H2Fuzzer)
