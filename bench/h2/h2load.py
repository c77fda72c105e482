"""Runs h2load (Debian's nghttp2-client) and reads what it prints.

It does not connect again after a GOAWAY: requests that it had not started then are failures of its own. Of those
that it calls started, some may have waited in its library when the GOAWAY came, and were never sent.
"""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.lab.programs import BenchFailed, program

_REQUESTS = re.compile(r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed")
_FINISHED = re.compile(r"finished in [\d.]+\w+, ([\d.]+) req/s")
_OK = re.compile(r"status codes: (\d+) 2xx")


@dataclass(frozen=True, slots=True)
class H2LoadResult:
    """One run."""

    started: int
    succeeded: int
    "Whole responses with status 2xx."
    rate: float
    "Requests a second."
    text: str


def parse(text: str) -> H2LoadResult:
    """What h2load has printed. Raises BenchFailed."""
    requests, finished, ok = _REQUESTS.search(text), _FINISHED.search(text), _OK.search(text)
    if requests is None or finished is None or ok is None:
        raise BenchFailed(f"h2load printed no result: {text[-400:]}")
    succeeded = min(int(requests[4]), int(ok[1]))
    return H2LoadResult(int(requests[2]), succeeded, float(finished[1]), text)


async def h2load(*arguments: object, core: int | None = None, time_limit: float = 120.0) -> H2LoadResult:
    """One run, on one core or on any. Raises BenchFailed."""
    pinned = (program("taskset"), "-c", str(core)) if core is not None else ()
    process = await asyncio.create_subprocess_exec(
        *(*pinned, program("h2load"), *map(str, arguments)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(time_limit):
            output, _ = await process.communicate()
    except TimeoutError:
        raise BenchFailed("h2load did not end") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return parse(output.decode(errors="replace"))


@dataclass(slots=True)
class Tally:
    """Of one run after the other."""

    succeeded: int = 0


@asynccontextmanager
async def again_and_again(*arguments: object) -> AsyncIterator[Tally]:
    """One run after the other for the whole block; the last one is waited for."""
    tally, is_over = Tally(), asyncio.Event()

    async def play() -> None:
        while not is_over.is_set():
            result = await h2load(*arguments)
            tally.succeeded += result.succeeded

    playing = asyncio.create_task(play())
    try:
        yield tally
        is_over.set()
        await playing
    finally:
        playing.cancel()
