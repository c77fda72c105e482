"""The listener of the control channel: it accepts workers of this edge only, by the credentials that the kernel
reports.

The address is abstract, so every process on this machine can read it in /proc/net/unix and connect: other
connections are closed at once, before a byte of them is read. Many may wait in the backlog, above all after the
admin process was stalled: it accepts many in one turn, so that a worker among them does not wait for long.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from edge.run.control.peer_credentials import Credentials, parent_of, peer_of

AT_ONCE = 256
"Connections that are accepted or closed in one turn of the loop: about three milliseconds."
MOST_ADMITTED = 64
"Connections of workers that may be in the course of being set up."
RETRY_PAUSE = 1.0
"Seconds before it accepts again when accepting failed: too many open files."
LOG_INTERVAL = 10.0
"Seconds between two events in the log about refused connections."

log = logging.getLogger("styx.control")


class ControlListener:
    """Accepts on a socket that the master has bound and keeps open.

    `user`: the user id of workers; `master`: the process id of their parent. `is_full`: whether there is no room
    for one more connection; `admit`: called with each accepted socket; `refused`: called with the number of refused
    connections.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        user: int,
        master: int,
        is_full: Callable[[], bool],
        admit: Callable[[socket.socket, Credentials], Coroutine[Any, Any, None]],
        refused: Callable[[int], None],
    ) -> None:
        self._sock = sock
        self._user = user
        self._master = master
        self._is_full = is_full
        self._admit = admit
        self._count_refused = refused
        self._admitting: set[asyncio.Task[None]] = set()
        self._retry: asyncio.TimerHandle | None = None
        self._unlogged = 0
        "Connections refused since the last event in the log."
        self._logged_at = float("-inf")

    def start(self) -> None:
        """Accept from now on, in the running loop."""
        self._retry = None
        self._sock.setblocking(False)
        asyncio.get_running_loop().add_reader(self._sock, self._accept)

    def stop(self) -> None:
        """Stop accepting. The socket stays open."""
        if self._retry is not None:
            self._retry.cancel()
        asyncio.get_running_loop().remove_reader(self._sock)
        for task in self._admitting:
            task.cancel()

    def _accept(self) -> None:
        loop, refused = asyncio.get_running_loop(), 0
        for _ in range(AT_ONCE):
            try:
                sock, _ = self._sock.accept()
            except BlockingIOError:
                break
            except OSError as error:
                log.error(
                    "control channel not accepting", extra={"code": "control_accept_failed", "error": str(error)}
                )
                loop.remove_reader(self._sock)
                self._retry = loop.call_later(RETRY_PAUSE, self.start)
                break
            credentials = self._worker_at(sock)
            if credentials is None:
                sock.close()
                refused += 1
                continue
            sock.setblocking(False)
            task = loop.create_task(self._admit(sock, credentials))
            self._admitting.add(task)
            task.add_done_callback(self._admitting.discard)
        if refused:
            self._count_refused(refused)
            self._log_refused(refused, loop.time())

    def _worker_at(self, sock: socket.socket) -> Credentials | None:
        """The credentials of the process that connected, if it is a worker and there is room; else None."""
        try:
            credentials = peer_of(sock)
            if credentials.uid != self._user or parent_of(credentials.pid) != self._master:
                return None
            if self._is_full() or len(self._admitting) >= MOST_ADMITTED:
                return None
        except OSError:  # the process is gone already, or hidden from us
            return None
        return credentials

    def _log_refused(self, refused: int, now: float) -> None:
        self._unlogged += refused
        if now - self._logged_at >= LOG_INTERVAL:
            log.warning(
                "connections to the control channel refused",
                extra={"code": "control_connections_refused", "count": self._unlogged},
            )
            self._unlogged, self._logged_at = 0, now
