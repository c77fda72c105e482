"""The connection pool: idle connections to backends are reused, new ones are opened.

Idle connections belong to an *endpoint* (backend id, address and port). A container that moved has a new endpoint,
so an idle connection can never lead to another program that now listens on its old port; one that speaks TLS has
another endpoint as well. Idle connections are closed before nginx would close them (keepalive_timeout 75 s), so
that the only race left is that of a backend that stops.
"""

import asyncio
import errno
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from ipaddress import ip_address
from ssl import SSLError
from typing import Any, Final, Protocol, TypeVar

from edge.net.balancing.backend_names import BackendNames
from edge.net.balancing.backend_tls import BackendTls, WrongBackendError
from edge.net.fair_timeout import FairTimeout
from edge.net.h1.h1_backend import ConnectionOwner, H1Backend
from edge.rules.balancing.backend_state import Candidate
from edge.rules.event_rate_limit import EventBudget
from edge.rules.http.framing import ResponseTooLarge
from edge.rules.limits.idle_lifetimes import IdleLifetimes
from edge.rules.outcomes import Cause, connect_cause
from edge.rules.routing.route_response import Backend
from edge.rules.settings import PoolSettings

SWEEP_PERIOD: Final = 0.25
"Seconds between two sweeps of the idle connections, at most."
MARGIN: Final = 1.0
"Seconds by which a connection is closed before the idle timeout that its backend has announced."

log = logging.getLogger("styx.pool")
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})


Purpose = TypeVar("Purpose", contravariant=True)
"What a connection is opened for, such as an attempt. The handler may be in another one when it is established."


class ConnectHandler(Protocol[Purpose]):
    """Receives the result of a connect."""

    def connected(self, purpose: Purpose, connection: H1Backend, /) -> None:
        """The connection is established."""

    def not_connected(self, purpose: Purpose, cause: Cause, /) -> None:
        """No connection could be established."""


class Pool(ConnectionOwner):
    """All connections of one worker to backends."""

    __slots__ = (
        "_close_client",
        "_dialling",
        "_events",
        "_idle",
        "_idle_of",
        "_idle_per_backend",
        "_idle_total",
        "_lifetimes",
        "_loop",
        "_most_open",
        "_new_connection",
        "_permits",
        "_settings",
        "deadline",
        "names",
        "open",
        "opened",
        "reused",
        "tls",
    )

    def __init__(
        self,
        settings: PoolSettings,
        loop: asyncio.AbstractEventLoop,
        new_connection: Callable[["Pool", str], H1Backend],
        *,
        permits: Callable[[str, int], bool] = lambda address, port: True,
        most_open: int = 1 << 30,
        makes_room: Callable[[], bool] = lambda: False,
    ) -> None:
        """`new_connection` makes the protocol of a new connection. `permits`: whether a backend may have an IP
        address and port to which its host name resolves. `most_open`: connections for which there are file
        descriptors. `makes_room` closes an idle connection of a client; returns False if there is none."""
        self._permits = permits
        self._close_client = makes_room
        self.reconfigure(settings, most_open=most_open)
        self._loop = loop
        self._new_connection = new_connection
        self._idle_of: dict[str, list[H1Backend]] = {}
        self._dialling: set[asyncio.Task[None]] = set()
        self._lifetimes = IdleLifetimes()
        self._idle = 0
        self._events = EventBudget()
        self.deadline = 0.0
        self.open = 0
        "Connections that are open now, in use or idle."
        self.opened = 0
        self.reused = 0
        self.names = BackendNames(loop.time)
        self.tls: BackendTls | None = None
        "TLS to backends; None = `backends.tls` is not set."

    def reconfigure(self, settings: PoolSettings, *, most_open: int = 1 << 30) -> None:
        """Apply these settings. Idle connections beyond new limits are closed after their idle timeout."""
        self._settings = settings
        self._most_open = most_open
        self._idle_total, self._idle_per_backend = settings.idle_total, settings.idle_per_backend

    @property
    def idle(self) -> int:
        """The number of idle connections."""
        return self._idle

    def acquire(self, endpoint: str, *, to_repeat: bool) -> H1Backend | None:
        """Take the most recently used idle connection of an endpoint; None = there is none.

        A connection that its backend has closed, or on which it has sent something, is not used. For a request that
        could be repeated (`to_repeat`), the state that the loop knows is enough, which polls all connections in
        each turn. For others the socket is checked now. (A fifth system call for every request costs up to a tenth
        of all its work.)
        """
        idle = self._idle_of.get(endpoint)
        while idle:
            connection = idle.pop()
            self._idle -= 1
            if not connection.closed and (to_repeat or connection.has_no_input()):
                self.reused += 1
                return connection
            self.record_stale(connection)
            connection.close()
        return None

    def release(self, connection: H1Backend, now: float) -> None:
        """Return a connection whose response is complete; if the pool is full, another one is closed for it."""
        if self._idle >= self._idle_total:
            self._close_oldest()
            if self._idle >= self._idle_total:  # no connection may be idle
                connection.close()
                return
        idle = self._idle_of.get(connection.endpoint)
        if idle is None:
            idle = self._idle_of[connection.endpoint] = []
        if len(idle) >= self._idle_per_backend:
            connection.close()
            return
        connection.idle_since = now
        idle.append(connection)
        self._idle += 1

    def _free_descriptor(self) -> bool:
        """Close an idle connection to free a file descriptor. Returns whether there was one."""
        if not self._idle:
            return self._close_client()
        self._close_oldest()
        return True

    def _close_oldest(self) -> None:
        """Close the oldest idle connection of one endpoint, of each endpoint in turn.

        (To find the oldest of all would be work in the path of every request.)
        """
        while self._idle_of:
            endpoint = next(iter(self._idle_of))
            idle = self._idle_of.pop(endpoint)
            if idle:
                self._idle_of[endpoint] = idle
                connection = idle.pop(0)
                self._idle -= 1
                connection.close()
                return

    def remove(self, connection: H1Backend) -> bool:
        """Remove a connection from the idle ones. Returns whether it was idle."""
        idle = self._idle_of.get(connection.endpoint)
        if idle is None or connection not in idle:
            return False
        idle.remove(connection)
        self._idle -= 1
        return True

    def lost(self, connection: H1Backend) -> None:
        """Record that a connection is closed, by either side. If it was idle, its backend has closed it."""
        self.open -= 1
        if self.remove(connection):
            self.record_stale(connection)

    def record_stale(self, connection: H1Backend) -> None:
        """Learn from an idle connection that its backend has closed: the next ones are closed earlier."""
        self._lifetimes.record_close(connection.endpoint, self._loop.time() - connection.idle_since)

    def record_too_large(self, connection: H1Backend, error: ResponseTooLarge) -> None:
        """Log a response whose head is beyond the limits, with its size."""
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

    def dial(
        self, candidate: Candidate, time_limit: float, handler: ConnectHandler[Purpose], purpose: Purpose
    ) -> None:
        """Open a connection to a backend. `handler` gets the result within `time_limit` seconds."""
        if self.open + len(self._dialling) >= self._most_open:
            self._close_oldest()
        task = self._loop.create_task(self._open(candidate, time_limit, handler, purpose), name=f"dial {candidate}")
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    async def _open(
        self, candidate: Candidate, time_limit: float, handler: ConnectHandler[Purpose], purpose: Purpose
    ) -> None:
        backend = candidate.backend
        try:
            async with FairTimeout(time_limit):
                if backend.tls:
                    connection = await self._connection_over_tls(candidate)
                else:
                    _, connection = await self._dial(backend, candidate.site, self._factory(candidate.endpoint))
        except TimeoutError:
            handler.not_connected(purpose, Cause.CONNECT_TIMEOUT)
        except WrongBackendError as error:
            self._record_wrong(candidate.endpoint, error)
            handler.not_connected(purpose, Cause.WRONG_BACKEND)
        except SSLError:  # whose errno is a number of OpenSSL
            handler.not_connected(purpose, Cause.CONNECT_FAILED)
        except OSError as error:
            full = bool(backend.path) and error.errno == errno.EAGAIN  # the accept queue of the Unix socket is full
            handler.not_connected(purpose, Cause.CONNECT_FAILED if full else connect_cause(error.errno))
        except ValueError:  # the core API sent an invalid address
            handler.not_connected(purpose, Cause.CONNECT_FAILED)
        except Exception:  # a fault of the edge, or of the loop: the request is not to wait for its deadline
            log.exception("dial failed", extra={"code": "dial_failed", "backend": candidate.endpoint})
            handler.not_connected(purpose, Cause.CONNECT_FAILED)
        else:
            self.opened += 1
            self.open += 1
            connection.set_user_timeout(self._settings.unacknowledged)
            handler.connected(purpose, connection)

    def _record_wrong(self, endpoint: str, error: WrongBackendError) -> None:
        """Log whom a handshake has found instead of the backend."""
        left_out = self._events.take(self._loop.time())
        if left_out is not None:
            log.warning(
                "wrong backend by its certificate",
                extra={
                    "code": "wrong_backend",
                    "backend": endpoint,
                    "reason": str(error),
                    "left_out_before": left_out,
                },
            )

    async def _connection_over_tls(self, candidate: Candidate) -> H1Backend:
        """Connect, and establish who is there. Raises WrongBackendError, or another OSError."""
        if self.tls is None:  # as for a stored route, or a file of routes, when backends.tls is not set any more
            raise WrongBackendError("neither backends.tls.ca nor backends.tls.certificate is set")
        connection: H1Backend = await self.tls.connect(
            candidate.backend_id,
            partial(self._dial, candidate.backend, candidate.site),
            self._factory(candidate.endpoint),
        )
        return connection

    async def _dial(self, backend: Backend, site: str, factory: Callable[[], Any]) -> tuple[Any, Any]:
        """Connect to a backend. Returns the transport, and the protocol that `factory` made. Raises OSError, or
        ValueError for an invalid address."""
        if backend.path:
            return await self._loop.create_unix_connection(factory, backend.path)
        addresses = await self._addresses_of(backend, site)
        try:
            return await self._connection_to(addresses, backend.port, factory)
        except OSError as error:
            if error.errno not in _NO_DESCRIPTORS or not self._free_descriptor():
                raise
        await asyncio.sleep(0)  # until the loop has closed an idle connection
        return await self._connection_to(addresses, backend.port, factory)

    async def _addresses_of(self, backend: Backend, site: str) -> list[str]:
        """The IP addresses of a backend, resolved if it has a host name.

        Raises OSError when there is none, or when backends may have none of them.
        """
        try:
            ip_address(backend.address)
        except ValueError:
            addresses = await self.names.addresses(backend.address, site)
            permitted = [a for a in addresses if self._permits(a, backend.port)]
            if not permitted:
                raise OSError(
                    errno.EACCES, f"core_api.backend_networks does not allow {', '.join(addresses)}"
                ) from None
            return permitted
        return [backend.address]

    def _factory(self, endpoint: str) -> Callable[[], Any]:
        """A factory of the protocol of a new connection. (Any: it is no subclass of asyncio's protocols.)"""
        return lambda: self._new_connection(self, endpoint)

    async def _connection_to(
        self, addresses: Sequence[str], port: int, factory: Callable[[], Any]
    ) -> tuple[Any, Any]:
        """Connect to the first of these that accepts. Raises OSError."""
        for address in addresses[:-1]:
            with suppress(OSError):
                return await self._loop.create_connection(factory, address, port)
        return await self._loop.create_connection(factory, addresses[-1], port)

    def deadline_passed(self, now: float) -> None:
        """Close connections that have been idle for too long. Called by the deadline sweep.

        Empty lists are removed only here: one that lost its last connection stays for that connection's return.
        """
        timeout = self._settings.idle_timeout
        self.deadline = now + min(SWEEP_PERIOD, timeout / 4)
        for endpoint, idle in list(self._idle_of.items()):
            learned = self._lifetimes.limit(endpoint)
            limit = min(timeout, learned)
            for connection in [
                connection
                for connection in idle
                if now - connection.idle_since > min(limit, connection.keep_alive_timeout - MARGIN)
            ]:
                if now - connection.idle_since > learned:
                    self._lifetimes.record_survival(endpoint)
                self.remove(connection)
                connection.close()
            if not idle:
                del self._idle_of[endpoint]

    async def close(self) -> None:
        """Close all idle connections, and cancel all connects."""
        for idle in list(self._idle_of.values()):
            for connection in list(idle):
                self.remove(connection)
                connection.close()
        if self.tls is not None:
            self.tls.close()
        for task in list(self._dialling):
            task.cancel()
        await asyncio.gather(*self._dialling, return_exceptions=True)
        await self.names.close()
