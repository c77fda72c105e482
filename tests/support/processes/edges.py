"""An edge of two workers that answers 503 by itself, and at once: what most tests of processes need."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from edge.demo.free_ports import free_port
from edge.demo.styx_process import StyxProcess
from tests.support.processes.process_verbs import DEADLINE, ROOT

REQUEST = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
CLOSED = f"file:{ROOT}/tests/run/closed_site.yaml"
"Routes of a site under maintenance. A core API that is not there would be asked twice, a tenth of a second apart."
NO_CORE_API = "http://127.0.0.1:9"
TEXT = """\
listeners: [{{address: "127.0.0.1:{port}"}}]
core_api: {{url: "{core_api}"}}
admin: {{address: "127.0.0.1:{admin}"}}
workers: {workers}
watchdog: {watchdog}
drain: {{delay: {delay}, timeout: {timeout}{idle}}}
access_log: {{path: "{log}"}}
{more}
"""


def text(**changes: object) -> str:
    """A configuration on free ports."""
    usual: dict[str, object] = {
        "port": free_port(),
        "admin": free_port(),
        "core_api": CLOSED,
        "workers": 2,
        "watchdog": "10s",
        "delay": "0s",
        "timeout": "5s",
        "idle": "",
        "log": "",
        "more": "",
    }
    if "idle" in changes:  # else the default, which gives way to a shorter timeout
        changes["idle"] = f", idle: {changes['idle']}"
    return TEXT.format(**{**usual, **changes})


@asynccontextmanager
async def edge(**changes: object) -> AsyncIterator[StyxProcess]:
    """Running, until the end of the block; killed if it does not end by itself."""
    child = StyxProcess(text(**changes))
    await child.start()
    try:
        yield child
    finally:
        await child.stop()


def events(child: StyxProcess) -> list[dict[str, object]]:
    """What its processes have told so far."""
    told = []
    for line in child.log.read_text().splitlines():
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict) and "event" in event:
                told.append(event)
    return told


def told(child: StyxProcess, code: str) -> list[dict[str, object]]:
    """The events with this code."""
    return [one for one in events(child) if one.get("code") == code]


class Kept:
    """One connection of a client, kept between requests."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> "Kept":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def ask(self, request: bytes = REQUEST) -> bytes:
        """The head of the response; b"" when the connection ended instead."""
        async with asyncio.timeout(DEADLINE):
            self._writer.write(request)
            try:
                head = await self._reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return b""
            length = next(line[15:] for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
            await self._reader.readexactly(int(length))
            return head

    async def ended(self) -> bool:
        """Whether it was closed in an orderly way, without another word."""
        async with asyncio.timeout(DEADLINE):
            return await self._reader.read() == b""


async def worker_of(child: StyxProcess, kept: Kept, pids: list[int]) -> int:
    """Which process serves this connection: the one that counts it."""
    counted = await counts(child)
    [pid] = [pid for pid in pids if counted[pid]["client_connections"] == 1]
    return pid


async def counts(child: StyxProcess) -> dict[int, dict[str, int]]:
    """What each worker tells about itself, by process id."""
    _, said = await child.ask_admin("/v1/overview")
    return {one["pid"]: one["content"] for one in json.loads(said)["workers"]}


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()


def children(pid: int) -> dict[str, int]:
    """Process ids by title, without `styx: `."""
    found = {}
    for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # buried meanwhile
            found[title(child).removeprefix("styx: ")] = child
    return found
