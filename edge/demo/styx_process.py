"""Runs styx as a child process: starts it with a configuration, waits until it is ready, and stops it.

async with StyxProcess(text) as styx:
    print(styx.port, styx.pid)

The child ends when its parent ends, even if that is killed. It leads a session of its own, so that Ctrl-C in a
terminal reaches only the parent, which then stops the child gracefully.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import aiohttp

from edge.platform.child_process import ChildProcess
from edge.rules.settings.file import parse

START_DEADLINE = 100.0
"Seconds within which it must be ready: many, for a busy machine. If its process ends, that is noticed at once."

STOP_DEADLINE = 35.0
"Seconds for requests in flight before SIGKILL; a little more than the drain of styx itself."


MOST_LOG = 32 * 1024 * 1024
"Bytes of its log after which `shorten_log` empties it."


class StyxFailed(Exception):
    """styx did not become ready; the text has the end of its log."""


class StyxProcess:
    """One `styx serve`.

    `env` is added to the environment, for ${NAME} in the configuration. `within`: a command that starts it, such as
    `prlimit`. Raises edge.rules.settings.file.SettingsError for an invalid configuration.
    """

    def __init__(self, config: str, env: Mapping[str, str] | None = None, *, within: Sequence[str] = ()) -> None:
        self._within = within
        self._directory = Path(tempfile.gettempdir(), f"styx-child-{os.getpid()}-{id(self):x}")
        # As systemd sets it: styx creates its admin socket there.
        self._environ = {**os.environ, "RUNTIME_DIRECTORY": str(self._directory), **(env or {})}
        self.settings = parse(config, name="styx.yaml", environ=self._environ)
        self._config = config
        self._process: ChildProcess | None = None
        self._admin: aiohttp.ClientSession | None = None
        self._last_words = ""

    @property
    def port(self) -> int:
        """Port of the first listener, as configured."""
        return self.settings.listeners[0].address.port

    @property
    def pid(self) -> int:
        return self._started.pid

    @property
    def ended(self) -> asyncio.Event:
        """Set when the process has ended, for any reason."""
        return self._started.ended

    @property
    def code(self) -> int | None:
        """Exit status; None while it runs."""
        return self._started.code

    @property
    def log(self) -> Path:
        """File with its output; removed by `stop`."""
        return self._directory / "styx.log"

    @property
    def file(self) -> Path:
        """File with its configuration; removed by `stop`."""
        return self._directory / "styx.yaml"

    @property
    def _started(self) -> ChildProcess:
        assert self._process is not None, "not started"
        return self._process

    async def start(self) -> None:
        """Start it and return when it is ready. Raises StyxFailed, or ContainerFailed when `setpriv` is missing."""
        self._directory.mkdir(mode=0o700)
        try:
            self.file.write_text(self._config)
            command = [*self._within, sys.executable, "-m", "edge", "serve", "-c", str(self.file)]
            self._process = ChildProcess.spawn(command, log=self.log, env=self._environ)
            self._admin = self._admin_session()
            await self._until_ready()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> int | None:
        """Stop it gracefully and return its exit status. Does nothing if it was not started."""
        if self._admin is not None:
            await self._admin.close()
        if self._process is not None:
            await self._process.quit(STOP_DEADLINE, signal.SIGINT)
            self._last_words = self._process.last_words()
        shutil.rmtree(self._directory, ignore_errors=True)
        return None if self._process is None else self._process.code

    async def __aenter__(self) -> "StyxProcess":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the master."""
        self._started.send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL to the whole process group."""
        self._started.kill()

    def shorten_log(self, most: int = MOST_LOG) -> None:
        """Empty its log if it is larger than this; styx appends to it, so it goes on from the beginning."""
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > most:
                os.truncate(self.log, 0)

    def last_words(self) -> str:
        """The end of its log; after `stop` too."""
        return self._last_words or (self._process.last_words() if self._process else "")

    async def ask_admin(self, path: str) -> tuple[int, str]:
        """Send a GET to its admin server; returns status and body. Raises aiohttp.ClientError."""
        assert self._admin is not None, "not started"
        async with self._admin.get(path) as response:
            return response.status, await response.text()

    async def workers(self) -> list[int]:
        """Process ids of its workers, by slot, as soon as all of them reply.

        Raises aiohttp.ClientError if the admin server does not respond, TimeoutError if a worker does not reply.
        """
        async with asyncio.timeout(START_DEADLINE):
            while True:
                overview = json.loads((await self.ask_admin("/v1/overview"))[1])
                if not overview["silent"]:
                    return [int(worker["pid"]) for worker in overview["workers"] if not worker["leaving"]]
                await asyncio.sleep(0.02)  # a ready worker joins the control channel a moment later

    def _admin_session(self) -> aiohttp.ClientSession:
        admin = self.settings.admin.address
        connector = aiohttp.UnixConnector(admin.path) if admin.path else aiohttp.TCPConnector()
        host = f"[{admin.host}]" if ":" in admin.host else admin.host or "localhost"
        base = "http://localhost" if admin.path else f"http://{host}:{admin.port}"
        return aiohttp.ClientSession(base, connector=connector, timeout=aiohttp.ClientTimeout(total=START_DEADLINE))

    async def _until_ready(self) -> None:
        deadline = asyncio.get_running_loop().time() + START_DEADLINE
        while not self.ended.is_set():
            try:
                status, body = await self.ask_admin("/readyz")
            except (aiohttp.ClientError, TimeoutError) as error:
                status, body = 0, f"its admin server does not respond ({error})"
            if status == 200 and not self.ended.is_set():
                return
            if asyncio.get_running_loop().time() > deadline:
                raise StyxFailed(
                    f"styx is not ready after {START_DEADLINE:g} s: {body.strip()}\n{self.last_words()}"
                )
            await asyncio.sleep(0.02)  # there is no event for a server that has started
        raise StyxFailed(f"styx ended with exit status {self.code}:\n{self.last_words()}")
