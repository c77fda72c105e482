"""A styx of several processes for `operate`: its commands, its processes, and whose connections are whose."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from bench.lab.procfs import family
from bench.lab.programs import BenchFailed
from bench.lab.servers import ROOT, free_ports, until
from edge.platform.child_process import ChildProcess

START_DEADLINE = 20.0
TITLE = re.compile(r"styx: (master|admin|worker \d+)")


@dataclass
class Edge:
    """One that runs. `directory` holds its configuration and what it says."""

    name: str
    port: int
    admin_port: int
    directory: Path
    settings: dict[str, Any]
    subreaper: ChildProcess = field(init=False)

    @property
    def config(self) -> Path:
        return self.directory / f"{self.name}.yaml"

    def configure(self, **changes: Any) -> None:
        """Write the configuration; sections replace those from before."""
        self.settings |= changes
        self.config.write_bytes(msgspec.json.encode(self.settings))  # which is YAML too

    async def command(self, *what: str) -> tuple[int, str]:
        """`styx reload`, or what else an operator does: its exit status, and its output."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "edge", *what, "--admin", f"127.0.0.1:{self.admin_port}"),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        out, _ = await process.communicate()
        return process.returncode or 0, out.decode().strip()

    async def request_admin(self, path: str) -> bytes | None:
        """None when there is no response, or its status is not 200."""
        url, time_limit = f"http://127.0.0.1:{self.admin_port}{path}", aiohttp.ClientTimeout(total=1)
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with aiohttp.ClientSession(timeout=time_limit) as session, session.get(url) as response:
                return await response.read() if response.status == 200 else None
        return None

    async def serving(self) -> list[int]:
        """Process ids of the workers that respond to the admin process: only they are ready."""
        overview = await self.request_admin("/v1/overview")
        here = self.workers()  # others that respond are about to leave
        return (
            []
            if overview is None
            else [t["pid"] for t in msgspec.json.decode(overview)["workers"] if t["pid"] in here]
        )

    def processes(self) -> dict[str, int]:
        """By what they are: `master`, `admin`, `worker 0`. Those that are about to leave are not among them."""
        found: dict[str, int] = {}
        for pid in family(self.subreaper.pid):
            with contextlib.suppress(OSError):
                title = TITLE.fullmatch(_title(pid))
                if title is not None:
                    found[title[1]] = pid
        return found

    def workers(self) -> list[int]:
        return [pid for what, pid in sorted(self.processes().items()) if what.startswith("worker")]

    def clients_of(self, pid: int) -> frozenset[int]:
        """Ports of the clients whose connections this process, which stands still, has accepted."""
        inodes = set()
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(os.readlink(link).removeprefix("socket:[").rstrip("]"))
        ours = f":{self.port:04X}"
        found = set()
        # The kernel walks a table that changes meanwhile, and skips a line at times: so look several times.
        lines = {line for _ in range(LOOKS) for line in Path("/proc/net/tcp").read_text().splitlines()[1:]}
        for line in lines:
            _, local, remote, *rest = line.split()
            if local.endswith(ours) and rest[6] in inodes and not remote.endswith(":0000"):
                found.add(int(remote.rpartition(":")[2], 16))
        return frozenset(found)

    def last_words(self) -> str:
        return self.subreaper.last_words()


LOOKS = 5
"At /proc/net/tcp."


def _title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


@asynccontextmanager
async def operated(
    name: str,
    directory: Path,
    settings: Mapping[str, Any],
    *,
    port: int = 0,
    sock: socket.socket | None = None,
    home: Path = ROOT,
    python: Sequence[str] = (sys.executable,),
    listener: Mapping[str, Any] | None = None,
    more_listeners: Sequence[Mapping[str, Any]] = (),
) -> AsyncIterator[Edge]:
    """Ready, until the end of the block. `sock`: its listening socket, held by us. `home`: where its code lies.
    `listener`: settings of the listener besides its address; `more_listeners`: others, with theirs.

    Raises BenchFailed when it does not come up.
    """
    admin_port, own = free_ports(2)
    edge = Edge(name, port or own, admin_port, directory, dict(settings))
    edge.configure(
        listeners=[{"address": f"127.0.0.1:{edge.port}", **(listener or {})}, *more_listeners],
        admin={"address": f"127.0.0.1:{admin_port}"},
    )
    edge.subreaper = ChildProcess.spawn(
        [
            *(
                sys.executable,
                "-m",
                "bench.lab.subreaper",
                str(home),
                str(sock.fileno()) if sock is not None else "-",
            ),
            *(*python, "-m", "edge", "serve", "-c", str(edge.config)),
        ],
        log=directory / f"{name}.out",
        env={"PYTHONPATH": str(ROOT), "RUNTIME_DIRECTORY": str(directory)},
        pass_fds=[sock.fileno()] if sock is not None else [],
    )
    try:
        deadline = time.monotonic() + START_DEADLINE
        while await edge.request_admin("/readyz") is None:
            if edge.subreaper.ended.is_set() or time.monotonic() > deadline:
                raise BenchFailed(f"{name} did not come up. Its output: {edge.last_words()}")
            await asyncio.sleep(0.05)
        yield edge
    finally:
        edge.subreaper.kill()
        await edge.subreaper.ended.wait()


def send(pid: int, number: signal.Signals) -> float:
    """When it was sent."""
    os.kill(pid, number)
    return time.monotonic()


async def stop(pid: int) -> float:
    """SIGSTOP; when it really stands still. Until then it may finish a system call, such as to accept."""
    send(pid, signal.SIGSTOP)
    await until(lambda: _state(pid) == "T")
    return time.monotonic()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
