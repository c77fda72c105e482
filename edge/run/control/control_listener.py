"""The door of the control channel: it lets in the workers of this edge, by what the kernel says of who connects.

The address is abstract, so anybody on this machine can read it in /proc/net/unix and connect: whoever is not let in
is closed at once, before a byte of it is read. Many may wait in the backlog, above all after the admin process
stood still: they are looked at many at a time, so that a worker among them does not wait for long.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from edge.run.control.peer_credentials import Credentials, parent_of, peer_of

AT_ONCE = 256
"Connections that are looked at in one turn of the loop: about three milliseconds."
MOST_WELCOMED = 64
"Workers that are let in in one turn of the loop."
PAUSE = 1.0
"Seconds before the next try when no connection can be accepted: too many open files."
TOLD_EVERY = 10.0
"Seconds between two lines of the log about strangers."

log = logging.getLogger("styx.hub")


class ControlListener:
    """Accepts on a socket that somebody else has bound and keeps open.

    `user`: the user id that workers have; `master`: the process whose children they are. `is_full` says that there
    is no room for one more; `welcome` gets who is let in; `refused` is told how many were not.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        user: int,
        master: int,
        is_full: Callable[[], bool],
        welcome: Callable[[socket.socket, Credentials], Coroutine[Any, Any, None]],
        refused: Callable[[int], None],
    ) -> None:
        self._sock = sock
        self._user = user
        self._master = master
        self._is_full = is_full
        self._welcome = welcome
        self._refused = refused
        self._welcoming: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None
        self._strangers = 0
        "Since the log told of some."
        self._told_at = float("-inf")

    def start(self) -> None:
        """Accept from now on, in the running loop."""
        self._again = None
        self._sock.setblocking(False)
        asyncio.get_running_loop().add_reader(self._sock, self._accept)

    def stop(self) -> None:
        """Accept no more. The socket stays as it is."""
        if self._again is not None:
            self._again.cancel()
        asyncio.get_running_loop().remove_reader(self._sock)
        for task in self._welcoming:
            task.cancel()

    def _accept(self) -> None:
        loop, strangers = asyncio.get_running_loop(), 0
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
                self._again = loop.call_later(PAUSE, self.start)
                break
            peer = self._worker_at(sock)
            if peer is None:
                sock.close()
                strangers += 1
                continue
            sock.setblocking(False)
            task = loop.create_task(self._welcome(sock, peer))
            self._welcoming.add(task)
            task.add_done_callback(self._welcoming.discard)
        if strangers:
            self._refused(strangers)
            self._tell_of(strangers, loop.time())

    def _worker_at(self, sock: socket.socket) -> Credentials | None:
        """Who connected, if that is a worker for whom there is room."""
        try:
            peer = peer_of(sock)
            if peer.uid != self._user or parent_of(peer.pid) != self._master:
                return None
            if self._is_full() or len(self._welcoming) >= MOST_WELCOMED:
                return None
        except OSError:  # it is gone already, or no business of ours
            return None
        return peer

    def _tell_of(self, strangers: int, now: float) -> None:
        self._strangers += strangers
        if now - self._told_at >= TOLD_EVERY:
            log.warning(
                "connections to the control channel refused",
                extra={"code": "control_connections_refused", "count": self._strangers},
            )
            self._strangers, self._told_at = 0, now
