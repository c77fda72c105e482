"""Connections to backends: kept ones on shelves, new ones dialled.

A shelf belongs to a *place* (backend id, address and port). A container that moved is a new place, so a
kept connection can never lead to whoever listens on its old port now. Kept connections are closed before
nginx would close them (keepalive_timeout 75 s), which leaves no race but that of a backend that stops.
"""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any, Protocol

from edge.net.attempt import Attempt
from edge.net.fair_timeout import FairTimeout
from edge.net.h1.h1_backend import H1Backend
from edge.rules.event_rate_limit import EventBudget
from edge.rules.http.framing import ResponseTooLarge
from edge.rules.limits.idle_lifetimes import IdleLifetimes
from edge.rules.outcomes import Cause, connect_cause
from edge.rules.routing.route_response import Backend
from edge.rules.settings import PoolSettings

SWEPT_EVERY = 0.25
MARGIN = 1.0
"Seconds by which a connection is closed before its backend would, which has said when."

log = logging.getLogger("styx.pool")
_NO_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE})


class Dialling(Protocol):
    """Who waits for a new connection."""

    def connected(self, attempt: Attempt, connection: H1Backend) -> None:
        """Here it is."""

    def not_connected(self, attempt: Attempt, cause: Cause) -> None:
        """There is none to be had."""


class Pool:
    """All connections of one worker to backends."""

    __slots__ = (
        "_dialling",
        "_events",
        "_idle",
        "_idle_of",
        "_idle_per_backend",
        "_idle_total",
        "_lifetimes",
        "_loop",
        "_makes_room",
        "_most_open",
        "_new_link",
        "_permits",
        "_settings",
        "deadline",
        "open",
        "opened",
        "reused",
    )

    def __init__(
        self,
        settings: PoolSettings,
        loop: asyncio.AbstractEventLoop,
        new_link: Callable[["Pool", str], H1Backend],
        *,
        permits: Callable[[str, int], bool] = lambda address, port: True,
        most_open: int = 1 << 30,
        makes_room: Callable[[], bool] = lambda: False,
    ) -> None:
        """`permits`: whether a backend may be at an IP address and port that its host name stands for. `most_open`:
        connections for which there are open files. `makes_room`: gives up an open file that is not of a backend."""
        self._permits = permits
        self._makes_room = makes_room
        self.reconfigure(settings, most_open=most_open)
        self._loop = loop
        self._new_link = new_link
        self._idle_of: dict[str, list[H1Backend]] = {}
        self._dialling: set[asyncio.Task[None]] = set()
        self._lifetimes = IdleLifetimes()
        self._idle = 0
        self._events = EventBudget()
        self.deadline = 0.0
        self.open = 0
        "Connections that are open now, lent or idle."
        self.opened = 0
        self.reused = 0

    def reconfigure(self, settings: PoolSettings, *, most_open: int = 1 << 30) -> None:
        """Keep connections by these settings; what is idle beyond them goes when its time has come."""
        self._settings = settings
        self._most_open = most_open
        self._idle_total, self._idle_per_backend = settings.idle_total, settings.idle_per_backend

    @property
    def idle(self) -> int:
        """Connections on shelves."""
        return self._idle

    def acquire(self, endpoint: str, *, to_repeat: bool) -> H1Backend | None:
        """The kept connection that was used last, if there is one that its backend has left alone: as far as the
        loop knows, which looks at all of them in each of its turns, or, if what it is for could not be repeated, as
        of now. (A fifth system call for every request costs up to a tenth of all its work.)
        """
        shelf = self._idle_of.get(endpoint)
        while shelf:
            connection = shelf.pop()
            self._idle -= 1
            if not connection.closed and (to_repeat or connection.is_quiet()):
                self.reused += 1
                return connection
            self.found_stale(connection)
            connection.close()
        return None

    def release(self, connection: H1Backend, now: float) -> None:
        """Keep a connection whose answer is complete; another one makes room for it, if need be."""
        if self._idle >= self._idle_total:
            self._make_room()
        shelf = self._idle_of.get(connection.endpoint)
        if shelf is None:
            shelf = self._idle_of[connection.endpoint] = []
        if self._idle >= self._idle_total or len(shelf) >= self._idle_per_backend:
            connection.close()
            return
        connection.idle_since = now
        shelf.append(connection)
        self._idle += 1

    def _free_descriptor(self) -> bool:
        """Close something that is idle. Returns whether there was something."""
        if not self._idle:
            return self._makes_room()
        self._make_room()
        return True

    def _make_room(self) -> None:
        """Close the oldest idle connection of some backend, of each in turn. (To know the oldest of all would be
        work on the way of every request.)"""
        while self._idle_of:
            endpoint = next(iter(self._idle_of))
            shelf = self._idle_of.pop(endpoint)
            if shelf:
                self._idle_of[endpoint] = shelf
                connection = shelf.pop(0)
                self._idle -= 1
                connection.close()
                return

    def remove(self, connection: H1Backend) -> bool:
        """This connection is no longer to be used. Returns whether it was idle."""
        shelf = self._idle_of.get(connection.endpoint)
        if shelf is None or connection not in shelf:
            return False
        shelf.remove(connection)
        self._idle -= 1
        return True

    def lost(self, connection: H1Backend) -> None:
        """A connection is closed, whoever did it; an idle one was closed by its backend."""
        self.open -= 1
        if self.remove(connection):
            self.found_stale(connection)

    def found_stale(self, connection: H1Backend) -> None:
        """Its backend closed this connection while it was idle: the next ones are closed before."""
        self._lifetimes.record_close(connection.endpoint, self._loop.time() - connection.idle_since)

    def too_large(self, connection: H1Backend, error: ResponseTooLarge) -> None:
        """A response came with a head beyond the limits: whoever runs the site wants to know by how much."""
        left_out = self._events.take(self._loop.time())
        if left_out is not None:
            log.warning(
                "response head too large",
                extra={
                    "code": "response_too_large",
                    "backend": connection.endpoint,
                    "limited_by": error.limited_by,
                    "size": error.size,
                    "limit": error.limit,
                    "left_out_before": left_out,
                },
            )

    def dial(self, attempt: Attempt, time_limit: float, waiting: Dialling) -> None:
        """Open a connection for an attempt; tells `waiting` within `time_limit` seconds."""
        if self.open + len(self._dialling) >= self._most_open:
            self._make_room()
        task = self._loop.create_task(self._open(attempt, time_limit, waiting), name=f"dial {attempt.candidate}")
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _open(self, attempt: Attempt, time_limit: float, waiting: Dialling) -> None:
        candidate = attempt.candidate
        backend = candidate.backend
        try:
            async with FairTimeout(time_limit):
                if backend.path:
                    connection = await self._connection_on(candidate.endpoint, backend.path)
                else:
                    addresses = await self._addresses_of(backend)
                    connection = await self._connected(candidate.endpoint, addresses, backend.port)
        except TimeoutError:
            waiting.not_connected(attempt, Cause.CONNECT_TIMEOUT)
        except OSError as error:
            full = bool(backend.path) and error.errno == errno.EAGAIN  # what listens there accepts too slowly
            waiting.not_connected(attempt, Cause.CONNECT_FAILED if full else connect_cause(error.errno))
        except ValueError:  # the core API named an address that is none
            waiting.not_connected(attempt, Cause.CONNECT_FAILED)
        else:
            self.opened += 1
            self.open += 1
            connection.be_watchful(self._settings.unacknowledged)
            waiting.connected(attempt, connection)

    async def _addresses_of(self, backend: Backend) -> list[str]:
        """IP addresses of a backend that may have a host name. Raises OSError when there is none, or when none of
        them is where backends may be."""
        try:
            ip_address(backend.address)
        except ValueError:
            found = await self._loop.getaddrinfo(backend.address, backend.port, type=socket.SOCK_STREAM)
            addresses = [str(sockaddr[0]) for *_, sockaddr in found]
            permitted = [a for a in addresses if self._permits(a, backend.port)]
            if not permitted:
                raise OSError(
                    errno.EACCES, f"core_api.backend_networks does not allow {', '.join(addresses)}"
                ) from None
            return permitted
        return [backend.address]

    async def _connected(self, endpoint: str, addresses: Sequence[str], port: int) -> H1Backend:
        """The same as `_connection_to`; without a file to open, an idle connection is closed for it."""
        try:
            return await self._connection_to(endpoint, addresses, port)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTORS or not self._free_descriptor():
                raise
        await asyncio.sleep(0)  # until the loop has closed it
        return await self._connection_to(endpoint, addresses, port)

    def _factory(self, endpoint: str) -> Callable[[], Any]:
        """Makes the protocol of a new connection. (Any: it is no subclass of asyncio's protocols.)"""
        return lambda: self._new_link(self, endpoint)

    async def _connection_to(self, endpoint: str, addresses: Sequence[str], port: int) -> H1Backend:
        """Connect to the first of these that accepts. Raises OSError."""
        connection: H1Backend
        for address in addresses[:-1]:
            with suppress(OSError):
                _, connection = await self._loop.create_connection(self._factory(endpoint), address, port)
                return connection
        _, connection = await self._loop.create_connection(self._factory(endpoint), addresses[-1], port)
        return connection

    async def _connection_on(self, endpoint: str, path: str) -> H1Backend:
        """Connect to a Unix socket. Raises OSError."""
        connection: H1Backend
        _, connection = await self._loop.create_unix_connection(self._factory(endpoint), path)
        return connection

    def deadline_passed(self, now: float) -> None:
        """Close what has been idle for too long. Called by the sweep,
        which also throws away empty shelves: taking the last link leaves one for its return."""
        timeout = self._settings.idle_timeout
        self.deadline = now + min(SWEPT_EVERY, timeout / 4)
        for endpoint, shelf in list(self._idle_of.items()):
            learned = self._lifetimes.limit(endpoint)
            limit = min(timeout, learned)
            for connection in [
                connection
                for connection in shelf
                if now - connection.idle_since > min(limit, connection.kept_for - MARGIN)
            ]:
                if now - connection.idle_since > learned:
                    self._lifetimes.record_survival(endpoint)
                self.remove(connection)
                connection.close()
            if not shelf:
                del self._idle_of[endpoint]

    async def close(self) -> None:
        """Close all that is idle; wait for what is being dialled."""
        for shelf in list(self._idle_of.values()):
            for connection in list(shelf):
                self.remove(connection)
                connection.close()
        for task in list(self._dialling):
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
