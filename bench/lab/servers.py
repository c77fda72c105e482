"""Servers as child processes: starts them, waits until they listen, and ends them by their pid."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.lab.programs import BenchFailed, program
from edge.demo.free_ports import free_port
from edge.platform.child_process import ChildProcess

ROOT = Path(__file__).parents[2]
"Of this project."
START_DEADLINE = 30.0
"Seconds until a server has to accept connections."


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs."""

    name: str
    pid: int
    port: int
    log: Path
    "Its access log; may not exist."

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@asynccontextmanager
async def serving(
    name: str,
    command: Sequence[str],
    *,
    directory: Path,
    port: int,
    core: int | None = None,
    time_limit: float = START_DEADLINE,
) -> AsyncIterator[Server]:
    """Runs until the end of the block, on one core or on any. Raises BenchFailed when it does not come up."""
    pinned = [program("taskset"), "-c", str(core), *command] if core is not None else command
    environ = {"RUNTIME_DIRECTORY": str(directory)}  # where styx has its admin socket
    child = ChildProcess.spawn(pinned, log=directory / f"{name}.out", env=environ)
    try:
        await until_listening(name, child, port, time_limit)
        yield Server(name, child.pid, port, directory / f"{name}.log")
    finally:
        child.kill()
        await child.ended.wait()


async def until_listening(name: str, child: ChildProcess, port: int, time_limit: float = START_DEADLINE) -> None:
    """Raises BenchFailed when nobody accepts there in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(time_limit):
            while not child.ended.is_set():
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)
    raise BenchFailed(f"{name} did not come up on port {port}. Its output: {child.last_words() or 'nothing'}")


async def until(so: Callable[[], bool], time_limit: float = START_DEADLINE) -> bool:
    """Whether it came to that in time."""
    deadline = time.monotonic() + time_limit
    while not so():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.005)
    return True


def spawn(module: str, directory: Path, *arguments: Path, name: str = "") -> ChildProcess:
    """`python -m MODULE ARGUMENTS...`; its output goes to a file of the directory, called NAME or like the module.

    Raises ContainerFailed.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return ChildProcess.spawn(command, log=directory / f"{name or module}.out", env={"PYTHONPATH": str(ROOT)})


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on now."""
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)


OLDER_YAML = """\
listeners: [{{address: "127.0.0.1:{port}"}}]
core_api: {{url: "{core_api_url}"}}
admin: {{address: "127.0.0.1:{admin_port}"}}
workers: 1
edge_name: bench
access_log: {{path: "{log}", flush_interval: {flush_interval}}}
log: {{level: warning}}
"""
"Settings that every version has."
STYX_YAML = OLDER_YAML + "drain: {{delay: 0s}}\n"


@asynccontextmanager
async def styx(
    directory: Path,
    core_api_url: str,
    *,
    core: int | None = None,
    flush_interval: str = "1s",
    checkout: Path | None = None,
    workers: int = 1,
    access_log: bool = True,
    name: str = "styx",
) -> AsyncIterator[Server]:
    """`styx serve` with metrics and, unless `access_log` is False, the access log in a file; other settings are the
    defaults.

    `checkout`: the folder of another version, which may not have the settings of this one. `name`: of the server
    and its files. Raises BenchFailed.
    """
    port, admin_port = free_ports(2)
    settings: Mapping[str, object] = {
        "port": port,
        "admin_port": admin_port,
        "core_api_url": core_api_url,
        "log": directory / f"{name}.log" if access_log else "",
        "flush_interval": flush_interval,
    }
    config = directory / f"{name}.yaml"
    text = (OLDER_YAML if checkout else STYX_YAML).format(**settings)
    config.write_text(text.replace("workers: 1\n", f"workers: {workers}\n"))
    command = [sys.executable, "-m", "edge", "serve", "-c", str(config)]
    if checkout is not None:
        command = [program("env"), "-C", str(checkout), *command]
    async with serving(name, command, directory=directory, port=port, core=core) as server:
        yield server
