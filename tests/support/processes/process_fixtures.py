"""Verbs of the tests of whole processes: the command, a platform in this process, styx as a child before it."""

import asyncio
import os
import pwd
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.demo.free_ports import free_port
from edge.demo.script_client import ScriptClient
from edge.demo.styx_process import StyxProcess
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform
from edge.run.cli import main
from tests.support.processes.process_verbs import COMMAND, CONFIG, DEADLINE, ROOT


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Awaitable[Ran]]


@pytest.fixture
def run() -> Run:
    """run("check", "-c", FILE) -> Ran: the real command, to its end."""

    async def ran(*args: object, deadline: float = 60, **env: str) -> Ran:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *map(str, args),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=ROOT,
            env={**os.environ, **env},
        )
        try:
            async with asyncio.timeout(deadline):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.communicate()
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    return ran


@pytest.fixture
def call() -> Run:
    """call("check", "-c", FILE) -> Ran: the same command within this process, in a thread, without the second that
    a new process takes to load. For what neither forks nor handles signals."""

    async def called(*args: object, **env: str) -> Ran:
        result = await asyncio.to_thread(CliRunner().invoke, main, [*map(str, args)], env=env)
        return Ran(result.exit_code, result.stdout, result.stderr)

    return called


Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def until() -> Until:
    """until(condition): return when it is true, fail after the deadline."""

    async def held(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - no event tells of another process
                await asyncio.sleep(0.005)

    return held


@pytest.fixture
async def platform() -> AsyncIterator[PocketPlatform]:
    """With one site, acme, of one container."""
    async with PocketPlatform(PlatformSpec(notice=0.02, seed=7)) as running:
        await running.create_environment("acme", service_time=0)
        yield running


@pytest.fixture
async def styx(platform: PocketPlatform) -> AsyncIterator[StyxProcess]:
    """Before that platform, ready."""
    text = CONFIG.format(port=free_port(), core_api=platform.core_api_url, admin=f"127.0.0.1:{free_port()}")
    async with StyxProcess(text) as child:
        yield child


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


@pytest.fixture
async def client(styx: StyxProcess) -> AsyncIterator[ScriptClient]:
    """Asks that styx; repeats nothing by itself."""
    async with ScriptClient(styx.port) as asking:
        yield asking


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory of ours that everybody can enter. (pytest keeps its own to its user, and sees to that again and
    again.)"""
    with tempfile.TemporaryDirectory(prefix="styx-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def theirs(open_path: Path) -> Path:
    """A directory in there that belongs to the user nobody."""
    nobody = pwd.getpwnam("nobody")
    directory = open_path / "theirs"
    directory.mkdir()
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    return directory
