"""A real redis-server on a port of its own, in memory only, that can be stopped, frozen and restarted."""

import asyncio
import shutil
import signal
from pathlib import Path

from edge.demo.free_ports import free_port
from edge.platform.child_process import ChildProcess

PROGRAM = shutil.which("redis-server", path="/usr/bin:/usr/sbin:/usr/local/bin")


class RedisServer:
    """See the module."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.port = free_port()
        self._child: ChildProcess | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """With nothing in it."""
        command = [
            str(PROGRAM),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
        ]
        self._child = ChildProcess.spawn(
            [*command, "--dir", str(self._directory)], log=self._directory / "redis.log", env={}
        )
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    return

    async def stop(self) -> None:
        """As by a crash."""
        if self._child is not None:
            self._child.kill()
            await self._child.ended.wait()

    def freeze(self) -> None:
        """It takes connections and requests, and responds to none."""
        assert self._child is not None
        self._child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._child is not None
        self._child.send_signal(signal.SIGCONT)
