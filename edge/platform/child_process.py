"""Child processes that end with the platform and set an event when they end.

Each child leads a session of its own, so that one signal reaches its workers too, and gets SIGTERM from the kernel
when its parent dies (PR_SET_PDEATHSIG). SIGTERM, not SIGKILL: masters such as nginx and php-fpm can then stop their
workers. `setpriv` makes that setting, because Python's `preexec_fn` is unsafe in a threaded process.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from edge.platform.containers.container import ContainerFailed

GROUP_DEADLINE = 5.0
"Seconds to wait for the rest of a process group."


def has_members(group: int) -> bool:
    """Whether a process of this group still runs; a zombie, which waits for its parent, does not."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, found, *_ = path.read_text(errors="replace").rpartition(")")[2].split()
            if int(found) == group and state not in "ZX":
                return True
    return False


class ChildProcess:
    """One started process; `ended` is set when it is gone."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        self.pid = process.pid
        self.ended = asyncio.Event()
        self.log = log
        self._process = process
        self._pidfd = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)

    @classmethod
    def spawn(
        cls, command: Sequence[str], *, log: Path, env: Mapping[str, str], pass_fds: Sequence[int] = ()
    ) -> "ChildProcess":
        """Start `command`, with its output appended to `log`. Raises ContainerFailed."""
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            raise ContainerFailed("setpriv is missing: install the Debian package util-linux")
        with log.open("ab") as output:
            process = subprocess.Popen(
                [setpriv, "--pdeathsig", "TERM", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": os.environ.get("PATH", os.defpath), **env},
                pass_fds=pass_fds,
                start_new_session=True,
            )
        return cls(process, log)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._process.wait()
        # Processes that the leader left behind in its session end with it.
        self.kill()
        self.ended.set()

    def kill(self) -> None:
        """Send SIGKILL to the whole process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    async def kill_and_wait(self) -> None:
        """Send SIGKILL to the whole process group, and wait until all of it has ended.

        A worker that is to end may still have its connections for a while after its master has gone, when the
        machine is busy: whoever writes to one of them then loses what it wrote.
        """
        self.kill()
        await self.ended.wait()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + GROUP_DEADLINE
        while has_members(self.pid) and loop.time() < deadline:  # noqa: ASYNC110 - no event tells of a group
            await asyncio.sleep(0.002)

    @property
    def code(self) -> int | None:
        """Exit status, negative for a signal that ended the process; None while it runs."""
        return self._process.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone, unless it has ended."""
        if not self.ended.is_set():
            os.kill(self.pid, number)

    async def quit(self, deadline: float, number: signal.Signals = signal.SIGQUIT) -> None:
        """Send SIGQUIT, or another signal for a graceful stop; SIGKILL to the group after `deadline` seconds."""
        if not self.ended.is_set():
            self.send_signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), deadline)
        self.kill()
        await self.ended.wait()

    def last_words(self) -> str:
        """The last 2000 characters of its log."""
        with contextlib.suppress(OSError):
            return self.log.read_text(errors="replace")[-2000:].strip()
        return ""
