"""The common start of several processes: a moment that is written to a file when all of them are ready.

A moment that is fixed before they are started is missed on a machine that is busy with starting them: requests that
are due since long would all leave at once.
"""

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from bench.lab.programs import BenchFailed

LEAD = 0.3
"Seconds between the telling and the moment."
READY_DEADLINE = 60.0
"Seconds until all generators have to be ready."


@dataclass(frozen=True, slots=True)
class StartSignal:
    """`file`: where the moment is written. `generators`: so many must be ready."""

    file: Path
    generators: int = 1

    async def send(self) -> float:
        """When all are ready; the moment, of the monotonic clock. Raises BenchFailed."""
        try:
            async with asyncio.timeout(READY_DEADLINE):
                while len(list(self.file.parent.glob(f"{self.file.name}.ready-*"))) < self.generators:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise BenchFailed(f"the generators were not ready after {READY_DEADLINE:g} s") from None
        moment = monotonic() + LEAD
        new = self.file.with_suffix(".new")
        new.write_text(repr(moment))
        new.rename(self.file)
        return moment


def report_ready(file: Path) -> None:
    """A generator is."""
    file.with_name(f"{file.name}.ready-{os.getpid()}").touch()


async def wait_for_start(file: Path) -> float:
    """The moment, as soon as it is in the file."""
    while not os.path.exists(file):  # noqa: ASYNC110, ASYNC240 - there is no event for another process
        await asyncio.sleep(0.01)
    return float(file.read_text())  # noqa: ASYNC240
