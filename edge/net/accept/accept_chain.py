"""The accept chain: the steps that a new connection passes before requests are read from it.

    accepted ─► counted, admitted ─► step ─► step ─► ... ─► HTTP connection
                      └─ beyond a limit: 503, and closed

`Listener` lists the steps: the PROXY header and TLS, if the listener asks for them, then the HTTP connection.
(HAProxy: temporary transports.)
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, cast

from edge.net.accept.connection_limit import Permit
from edge.net.accept.lingering_close import turn_away
from edge.net.tls.handshake_result import HandshakeResult
from edge.net.worker_context import WorkerContext
from edge.rules.http.hop_by_hop import ClientInfo
from edge.rules.traffic.listener_counts import NO_LISTENER, ListenerCounts

InfoOf = Callable[[object], ClientInfo | None]
"Information about the client with this `peername`; None = it may not connect, or it has been reset already."


Reject = Callable[[WorkerContext, asyncio.Transport, ClientInfo], None]
"Ends a connection that is beyond a limit."


class AcceptStep(Protocol):
    """An asyncio protocol that owns the connection until the next step begins."""

    def begin(self, data: bytes) -> None:
        """Begin with `data`, which was read before and not used by the steps before this one."""


class NewConnection:
    """A connection on its way through the steps. Nothing is read from it until the first step begins.

    (Not a subclass of `asyncio.Protocol`: a loop only looks up its methods.)
    """

    __slots__ = ("_context", "_info_of", "_listener", "_reject", "_steps", "info", "permit", "tls", "transport")

    transport: asyncio.Transport
    "What the next step reads from and writes to."
    info: ClientInfo
    "The client, as far as the steps so far have identified it."

    def __init__(
        self,
        context: WorkerContext,
        info_of: InfoOf,
        steps: Sequence["StepFactory"],
        reject: Reject = turn_away,
        listener: ListenerCounts = NO_LISTENER,
    ) -> None:
        """`reject`: ends a connection that is beyond a limit. `listener`: the same that `info_of` tells."""
        self._listener = listener
        self._context = context
        self._reject = reject
        self._info_of = info_of
        self._steps: Iterator[StepFactory] = iter(steps)
        self.permit: Permit | None = None
        "The permit that is returned when the connection ends; None = not admitted."
        self.tls: HandshakeResult | None = None
        "What the TLS handshake came to; None = there was none."

    def __repr__(self) -> str:
        return f"<NewConnection {'admitted' if self.permit is not None else 'not admitted'}>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        counts = self._context.counts
        counts.connections += 1
        counts.accepted += 1
        self._listener.connections += 1
        info = self._info_of(transport.get_extra_info("peername"))
        if info is None:
            self.transport.abort()
        elif self.admit(info):
            self.begin_next(b"")

    def connection_lost(self, exc: Exception | None) -> None:
        context = self._context
        context.counts.connections -= 1
        self._listener.connections -= 1
        context.connection_limiter.leave(self.permit)
        self.permit = None

    def data_received(self, data: bytes) -> None:
        """Discard the bytes: it was rejected."""

    def eof_received(self) -> None:
        """Let the loop close it."""

    def pause_writing(self) -> None:
        """Nothing more is written."""

    def resume_writing(self) -> None:
        """Nothing more is written."""

    def admit(self, info: ClientInfo) -> bool:
        """Count it as a connection of this client, and no longer as one of another. False = beyond a limit: it gets
        a 503, if it speaks HTTP by now, and is closed."""
        context = self._context
        context.connection_limiter.leave(self.permit)
        self.permit = context.connection_limiter.admit(info)
        if self.permit is None:
            self._reject(context, self.transport, info)
            return False
        self.info = info
        return True

    def begin_next(self, data: bytes) -> None:
        """Give the connection to the next step, with `data`, which was read and not used."""
        step = next(self._steps)(self._context, self)
        self.transport.set_protocol(cast(asyncio.Protocol, step))
        step.begin(data)


StepFactory = Callable[[WorkerContext, NewConnection], AcceptStep]
