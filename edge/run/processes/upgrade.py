"""The next master: what is installed now, started beside us with our sockets.

As nginx does it: the old one goes only when the new one has said that it serves. Then the process id changes, which
systemd is told (MAINPID), and other supervisors must be able to follow.
"""

import os
import signal
import sys
from typing import Final

from edge.run.sockets.listening_sockets import Sockets
from edge.run.sockets.systemd import Systemd

SOCKETS, READY = "STYX_SOCKETS", "STYX_READY"
"Names in the environment of a new master."
READY_PATIENCE = 40.0
"Seconds that it has; its workers have 30."
SERVING: Final = b"ready"
"What a new master says to the one whose sockets it has, when it serves."


def tell_serving(descriptor: int) -> None:
    """Say to the master whose sockets we have that we serve."""
    os.write(descriptor, SERVING)
    os.close(descriptor)


class Successor:
    """A master that takes over, or does not."""

    def __init__(self, pid: int, line: int) -> None:
        self.pid = pid
        self.status: int | None = None
        "As waitpid gave it; None while it lives."
        self._line = line
        self._ready = False

    @classmethod
    def start(cls, sockets: Sockets, systemd: Systemd) -> "Successor":
        """The same command once more. Raises OSError."""
        ready, tell_ready = os.pipe()
        os.set_blocking(ready, False)
        environ = {
            **os.environ,
            **systemd.environment(),
            SOCKETS: sockets.handed_over(),
            READY: str(tell_ready),
        }
        os.set_inheritable(tell_ready, True)
        command = [sys.executable, *sys.orig_argv[1:]]
        # It has its own signals from the first moment, not ours.
        pid = os.posix_spawn(
            sys.executable,
            command,
            environ,
            setsigdef=[signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT],
        )
        os.close(tell_ready)
        return cls(pid, ready)

    @property
    def ready(self) -> bool:
        """Whether it has said that it serves."""
        try:
            self._ready = self._ready or os.read(self._line, 16) == SERVING
        except BlockingIOError:
            return False
        return self._ready

    @property
    def ended(self) -> bool:
        return self.status is not None

    def give_up(self) -> None:
        """It is too late for it. Its workers may have taken requests: it drains, but does not wait for more."""
        os.close(self._line)
        if not self.ended:
            os.kill(self.pid, signal.SIGINT)
