"""The protocols between systemd and a service: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

They are a few lines of text in a datagram, and some environment variables: less than a dependency. The variables
are removed from the environment, so that no child takes them for its own.
"""

import os
import socket
import time
from collections.abc import MutableMapping

import structlog

FIRST_DESCRIPTOR = 3

log = structlog.get_logger("styx.systemd")


class Systemd:
    """The service manager. Without one, nothing is sent. No error is raised, because nothing depends on it."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self.address = address
        self.watchdog = watchdog
        "Seconds without `alive` after which it kills the service; 0 = no watchdog."
        self._watching = False
        "Whether we have told it that we serve: it counts from then on."

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int) -> "Systemd":
        """The service manager that these variables name, if any."""
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        meant = environ.pop("WATCHDOG_PID", str(pid)) == str(pid)
        return cls(address, int(microseconds) / 1e6 if meant and microseconds.isdecimal() else 0.0)

    def ready(self, status: str) -> None:
        """Notify that we serve; also ends `reloading`."""
        self._watching = True
        self._notify("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Notify that a reload begins; `ready` ends it."""
        self._notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """Notify that we are about to end."""
        self._notify("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """Notify the watchdog; to be called more often than every `watchdog` seconds.

        Nothing is sent before the first `ready`: a new version that starts beside the old one is not the main
        process yet, and systemd would log a warning for each.
        """
        if self.watchdog and self._watching:
            self._notify("WATCHDOG=1")

    def replaced_by(self, pid: int) -> None:
        """Notify that another process is the service from now on; this one sends nothing more.

        The other's own READY=1 was ignored, because it was not the main process yet (NotifyAccess=main), so this
        ends the reload that an upgrade is.
        """
        self._notify(f"MAINPID={pid}", "READY=1")
        self.address = ""

    def environment(self) -> dict[str, str]:
        """The environment variables for the process that will be the service."""
        if not self.address:
            return {}
        watched = {"WATCHDOG_USEC": str(int(self.watchdog * 1e6))} if self.watchdog else {}
        return {"NOTIFY_SOCKET": self.address, **watched}

    def _notify(self, *lines: str) -> None:
        if not self.address:
            return
        path = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto("\n".join(lines).encode(), path)
        except OSError as error:
            log.warning("systemd not notified", code="systemd_not_notified", error=str(error), details=lines[0])


def listening_descriptors(environ: MutableMapping[str, str], pid: int) -> range:
    """The descriptors of the sockets that systemd opened for us. They are ours from now on."""
    count, meant = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if meant != str(pid) or not count.isdecimal():
        return range(0)
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    for number in descriptors:
        os.set_inheritable(number, False)
    return descriptors
