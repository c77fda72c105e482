"""The walk of a cached request through the code: which functions are called, in which order, in which files.

It is recorded (`sys.setprofile`) over one request of a worker without sockets: a known route, an idle connection,
known fields of both heads, and an access log. A compiled styx calls functions without telling the profiler.
"""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

from bench.guard.requests_in_process import LOADS, WorkerWithoutSockets
from edge.rules.traffic.top_sites import BUSY

EDGE = Path(__file__).parent.parent.parent / "edge"
WARM_UP = BUSY + 5
"""Requests before it: connect to the backend, make the heads known, and be so many that most are left out of the
busiest sites."""


class Call(NamedTuple):
    """One call of a function of styx."""

    file: str
    "Below edge/."
    function: str
    depth: int
    "How many calls of styx it is in."


class Walk(NamedTuple):
    """The calls of one request, in order."""

    calls: Sequence[Call]

    @property
    def files(self) -> list[str]:
        """In the order in which they are entered."""
        return list(dict.fromkeys(call.file for call in self.calls))

    @property
    def returns(self) -> int:
        """How often the next call is in another file that was entered before."""
        seen: set[str] = set()
        returns, last = 0, ""
        for call in self.calls:
            returns += call.file != last and call.file in seen
            seen.add(call.file)
            last = call.file
        return returns

    def lines(self) -> Iterator[str]:
        """A line for each call, with the number of the file where the file changes."""
        numbers = {file: number for number, file in enumerate(self.files, 1)}
        width, last = max(map(len, self.files)), ""
        for call in self.calls:
            new = call.file != last
            number, file = (numbers[call.file], call.file) if new else ("", "")
            yield f"{number:>2}  {file:<{width}}  {'· ' * call.depth}{call.function}"
            last = call.file


class Recorder:
    """Records the calls of functions of styx while it is installed."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._depth = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        path = Path(code.co_filename)
        if event not in ("call", "return") or not path.is_relative_to(EDGE) or code.co_name.startswith("<"):
            return
        file = path.relative_to(EDGE).as_posix()
        if event == "return":
            self._depth -= 1
        else:
            self.calls.append(Call(file, code.co_qualname, self._depth))
            self._depth += 1


async def _recorded() -> Walk:
    worker, load = WorkerWithoutSockets(), LOADS["repeating"]
    for _ in range(WARM_UP):
        await worker.request(load, load.head(0))
    recorder, before = Recorder(), sys.getprofile()
    sys.setprofile(recorder)
    try:
        await worker.request(load, load.head(0))
    finally:
        sys.setprofile(before)
        await worker.close()
    return Walk(recorder.calls)


def request_walk() -> Walk:
    """Record the walk of a cached request."""
    return asyncio.run(_recorded())
