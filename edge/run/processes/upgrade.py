"""Upgrade: starts the installed version as a second master, with our sockets.

As in nginx, the old master ends only when the new one has reported that it serves. The process id changes then:
systemd is notified (MAINPID); other supervisors must be able to follow.
"""

import os
import signal
import sys
from typing import Final

from edge.run.sockets.listening_sockets import Sockets
from edge.run.sockets.systemd import Systemd

SOCKETS, READY = "STYX_SOCKETS", "STYX_READY"
"Environment variables of a new master: the sockets, and the descriptor to report to."
READY_TIMEOUT = 40.0
"Seconds for the new master to become ready; its workers have 30."
SERVING: Final = b"ready"
"What a new master writes to the previous one when it serves."


def report_serving(descriptor: int) -> None:
    """Report to the previous master that we serve, and close the descriptor."""
    os.write(descriptor, SERVING)
    os.close(descriptor)


class Successor:
    """The new master, as the old one knows it."""

    def __init__(self, pid: int, ready_pipe: int) -> None:
        self.pid = pid
        self.status: int | None = None
        "Its status from waitpid(2); None while it lives."
        self._ready_pipe = ready_pipe
        self._ready = False

    @classmethod
    def start(cls, sockets: Sockets, systemd: Systemd) -> "Successor":
        """Run the command line of this process again. Raises OSError."""
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
        # It starts with the default signal handlers, not with ours.
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
        """Whether it has reported that it serves."""
        try:
            self._ready = self._ready or os.read(self._ready_pipe, 16) == SERVING
        except BlockingIOError:
            return False
        return self._ready

    @property
    def ended(self) -> bool:
        return self.status is not None

    def give_up(self) -> None:
        """End it, because it was not ready in time. Its workers may have requests in flight: SIGINT drains it
        without delay."""
        os.close(self._ready_pipe)
        if not self.ended:
            os.kill(self.pid, signal.SIGINT)
