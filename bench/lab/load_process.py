"""Runs load generators as child processes: they read a task from a JSON file and write their result to another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from bench.lab import availability_load, load_generator
from bench.lab.availability_load import AvailabilityLoad, AvailabilityResult
from bench.lab.load_generator import LoadResult, Schedule
from bench.lab.plain_http import TIMEOUT as REPLY_TIMEOUT
from bench.lab.programs import BenchFailed, end_of
from bench.lab.servers import spawn, until
from bench.lab.start_signal import READY_DEADLINE
from edge.platform.child_process import ChildProcess

RESULT = "availability.json"
TIMEOUT = 20.0
"Seconds for the generator to begin, and to end when its time is over."
T = TypeVar("T")


async def run_task(
    module: str, task: msgspec.Struct, result_type: type[T], directory: Path, *, time_limit: float, name: str = ""
) -> T:
    """Run `python -m MODULE TASK RESULT` to its end and decode the result.

    `time_limit`: seconds until it must have ended. `name`: of its files and in errors; the module's own if empty.
    Raises BenchFailed.
    """
    name = name or module.rpartition(".")[2]
    task_file, result_file = directory / f"{name}.task", directory / f"{name}.result"
    task_file.write_bytes(msgspec.json.encode(task))
    result_file.unlink(missing_ok=True)
    process = spawn(module, directory, task_file, result_file, name=name)
    await end_of(process, time_limit, lambda: f"{name} did not end")
    if not result_file.exists():
        raise BenchFailed(f"{name} failed: {process.last_words()}")
    return msgspec.json.decode(result_file.read_bytes(), type=result_type)


async def run_schedule(schedule: Schedule, directory: Path, *, may_be_fruitless: bool = False) -> LoadResult:
    """Send the requests of a schedule. Raises BenchFailed, also when no response was a 200, unless allowed."""
    time_limit = schedule.seconds + READY_DEADLINE + 2 * REPLY_TIMEOUT
    result = await run_task(load_generator.__name__, schedule, LoadResult, directory, time_limit=time_limit)
    if not result.completed and not may_be_fruitless:
        raise BenchFailed(f"{schedule.name}: no request was completed 200: {result.statuses}")
    return result


@asynccontextmanager
async def running_load(
    load: AvailabilityLoad, directory: Path, module: str = availability_load.__name__
) -> AsyncIterator[ChildProcess]:
    """Requests are sent for the whole block; the block sends SIGUSR1 when the generator may end. `module`: of the
    generator.

    Raises BenchFailed. One directory is for one load at a time.
    """
    task, result = directory / "load.json", directory / RESULT
    task.write_bytes(msgspec.json.encode(load))
    generator = spawn(module, directory, task, result)
    try:
        began = result.with_suffix(".began")
        if not await until(lambda: began.exists() or generator.ended.is_set(), TIMEOUT):
            raise BenchFailed("the generator did not begin")
        yield generator
        async with asyncio.timeout(load.seconds + load.time_limit + TIMEOUT):
            await generator.ended.wait()
    except TimeoutError:
        raise BenchFailed("the generator did not end") from None
    finally:
        generator.kill()
        await generator.ended.wait()


def result_of(generator: ChildProcess, directory: Path) -> AvailabilityResult:
    """What the load of this directory, which has ended, recorded. Raises BenchFailed."""
    try:
        return msgspec.json.decode((directory / RESULT).read_bytes(), type=AvailabilityResult)
    except (OSError, msgspec.DecodeError):
        raise BenchFailed(f"the generator failed: {generator.last_words()}") from None
