"""Real programs as children of a test: clients that run to their end, servers behind the edge."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from edge.platform.child_process import ChildProcess
from tests.support.scene import Scene

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DEADLINE = 100.0
"Seconds after which a program that should have ended is stuck."

HOSTS = ("127.0.0.1", "site.localhost")
"Hostnames that the core API knows: the first for clients that look up no names, the other for browsers."

PACKAGES = {
    "ab": "apache2-utils",
    "chromium": "chromium",
    "curl": "curl",
    "h2load": "nghttp2-client",
    "nginx": "nginx-light",
    "node": "nodejs",
    "wrk": "wrk",
}
"Programs and the Debian packages that have them."


def program(name: str) -> str:
    """Its path. Without it the test is skipped, and the package named."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is missing: apt-get install {PACKAGES[name]}")
    return found


def environment(home: Path) -> dict[str, str]:
    """Nothing of the developer's own: no proxy, no curlrc, no language."""
    return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(home), "LC_ALL": "C"}


class Running:
    """A client at work; its output comes line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, name: str, *args: object, home: Path) -> "Running":
        # Should the tests be killed, it goes with them.
        process = await asyncio.create_subprocess_exec(
            *("setpriv", "--pdeathsig", "KILL", "--", program(name)),
            *map(str, args),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(home),
            cwd=home,
            start_new_session=True,
            limit=1 << 24,
        )
        return cls(process)

    def say(self, data: bytes) -> None:
        """Write to its input."""
        assert self._process.stdin is not None
        self._process.stdin.write(data)

    def said_all(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()

    async def line(self) -> bytes:
        """What it prints next."""
        assert self._process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            return await self._process.stdout.readline()

    async def to_the_end(self) -> "Ran":
        async with asyncio.timeout(DEADLINE):
            out, err = await self._process.communicate()
        assert self._process.returncode is not None
        return Ran(self._process.returncode, out, err.decode(errors="replace"))

    async def kill(self) -> None:
        """End it, and all that it has started."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.communicate()


@dataclass(frozen=True)
class Ran:
    """What a client left behind."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """What it printed, if all went well."""
        assert self.code == 0, f"exit status {self.code}: {self.err}\n{self.out[-2000:]!r}"
        return self.out.decode()


class Backend:
    """A real server, as `Scene.route` takes it. Tests ask it past the edge, too."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self.edge = 0
        "The port of the edge before it."

    @property
    def answer(self) -> dict[str, Any]:
        """As the core API tells it."""
        where = {"id": self.name, "address": "127.0.0.1", "port": self.port, "server": "srv-1"}
        return {**where, "role": "active", "state": "running"}

    @property
    def url(self) -> str:
        """Of the edge before it."""
        return f"http://127.0.0.1:{self.edge}"

    async def stand_behind(self, scene: Scene) -> None:
        """Have the edge of this scene before it."""
        for host in HOSTS:
            scene.route(host, [self])
        self.edge = (await scene.edge()).ports[0]

    async def told(self, path: str = "/seen") -> Any:
        """What it says itself, as JSON."""
        async with self._asked("GET", path) as answer:
            assert answer.status == 200
            return await answer.json()

    async def next(self, word: str) -> None:
        """Let it say the next word of its event stream, or answer its long poll."""
        async with self._asked("POST", "/next", data=word) as answer:
            assert answer.status == 204

    @asynccontextmanager
    async def _asked(self, method: str, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientResponse]:
        async with (
            asyncio.timeout(DEADLINE),
            aiohttp.ClientSession(f"http://127.0.0.1:{self.port}") as http,
            http.request(method, path, **options) as answer,
        ):
            yield answer

    async def until_told(self, condition: Callable[[Any], bool]) -> Any:
        """Wait until what it says of itself is so."""
        async with asyncio.timeout(DEADLINE):
            while not condition(told := await self.told()):  # noqa: ASYNC110 - another process rings no bell
                await asyncio.sleep(0.005)
        return told


class Server(Backend):
    """A backend that is a process of its own. Its listening socket is made here, so nobody waits until it is up."""

    def __init__(self, name: str, port: int, child: ChildProcess) -> None:
        super().__init__(name, port)
        self.child = child

    @classmethod
    def spawn(cls, name: str, command: Callable[[int, int], Sequence[str]], *, home: Path) -> "Server":
        """Runs `command(fd, port)`: the descriptor of its listening socket, and where that is."""
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as sock:
            fd, port = sock.fileno(), sock.getsockname()[1]
            environ = {**environment(home), "PYTHONPATH": str(ROOT)}
            log = home / f"{name}.out"
            child = ChildProcess.spawn(command(fd, port), log=log, env=environ, pass_fds=[fd])
        return cls(name, port, child)

    async def stop(self) -> None:
        """End it; it must not have ended before."""
        ended, words = self.child.ended.is_set(), self.child.last_words()
        self.child.kill()
        await self.child.ended.wait()
        assert not ended, f"{self.name} has ended by itself: {words}"
