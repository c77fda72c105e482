"""What systemd and a service say to each other: sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3).

A few lines of text in a datagram, and two environment variables: less than a dependency. The variables are taken
out of the environment, so that no child believes that it is meant.
"""

import os
import socket
import time
from collections.abc import MutableMapping

import structlog

FIRST_DESCRIPTOR = 3

log = structlog.get_logger("styx.systemd")


class Systemd:
    """The service manager, or nobody: then nothing is said. No error is raised, for nothing depends on it."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self.address = address
        self.watchdog = watchdog
        "Seconds after which it kills a service that has not said that it is alive; 0 = it does not watch."

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str], pid: int) -> "Systemd":
        """Who started us, if it was systemd."""
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        meant = environ.pop("WATCHDOG_PID", str(pid)) == str(pid)
        return cls(address, int(microseconds) / 1e6 if meant and microseconds.isdecimal() else 0.0)

    def ready(self, status: str) -> None:
        """We serve; after `reloading` too."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """We are about to end."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def alive(self) -> None:
        """To be said more often than every `watchdog` seconds."""
        if self.watchdog:
            self._tell("WATCHDOG=1")

    def replaced_by(self, pid: int) -> None:
        """Another process is the service from now on. It has said that it is ready, but nobody believed it yet
        (NotifyAccess=main), so we end the reload that an upgrade is."""
        self._tell(f"MAINPID={pid}", "READY=1")

    def environment(self) -> dict[str, str]:
        """For the process that will be the service."""
        if not self.address:
            return {}
        watched = {"WATCHDOG_USEC": str(int(self.watchdog * 1e6))} if self.watchdog else {}
        return {"NOTIFY_SOCKET": self.address, **watched}

    def _tell(self, *lines: str) -> None:
        if not self.address:
            return
        path = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto("\n".join(lines).encode(), path)
        except OSError as error:
            log.warning("systemd not notified", code="systemd_not_notified", error=str(error), said=lines[0])


def listening_descriptors(environ: MutableMapping[str, str], pid: int) -> range:
    """Sockets that systemd opened for us. They are ours from now on."""
    count, meant = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if meant != str(pid) or not count.isdecimal():
        return range(0)
    descriptors = range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + int(count))
    for number in descriptors:
        os.set_inheritable(number, False)
    return descriptors
