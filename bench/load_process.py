"""The open-loop generator (`open_loop`) as a child process: started, told when it may end, and read afterwards."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from bench.open_loop import Harvest, Load
from bench.operated_edge import ROOT, until
from bench.programs import BenchFailed
from edge.platform.child_process import ChildProcess

RESULT = "harvest.json"
PATIENCE = 20.0
"Seconds for the generator to begin, and to end when its time is over."


@asynccontextmanager
async def running_load(load: Load, directory: Path) -> AsyncIterator[ChildProcess]:
    """It has begun at the beginning of the block, and ended behind it; the block tells it when it may (SIGUSR1).

    Raises BenchFailed. One directory is for one load at a time.
    """
    todo, result = directory / "load.json", directory / RESULT
    todo.write_bytes(msgspec.json.encode(load))
    generator = spawn("bench.open_loop", directory, todo, result)
    try:
        began = result.with_suffix(".began")
        if not await until(lambda: began.exists() or generator.ended.is_set(), PATIENCE):
            raise BenchFailed("the generator did not begin")
        yield generator
        async with asyncio.timeout(load.seconds + load.patience + PATIENCE):
            await generator.ended.wait()
    except TimeoutError:
        raise BenchFailed("the generator did not end") from None
    finally:
        generator.kill()
        await generator.ended.wait()


def harvest_of(generator: ChildProcess, directory: Path) -> Harvest:
    """What the load of this directory, which has ended, brought. Raises BenchFailed."""
    try:
        return msgspec.json.decode((directory / RESULT).read_bytes(), type=Harvest)
    except (OSError, msgspec.DecodeError):
        raise BenchFailed(f"the generator failed: {generator.last_words()}") from None


def spawn(module: str, directory: Path, *arguments: Path) -> ChildProcess:
    """`python -m MODULE ARGUMENTS...`, what it prints in a file of the directory. Raises ContainerFailed."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return ChildProcess.spawn(command, log=directory / f"{module}.out", env={"PYTHONPATH": str(ROOT)})
