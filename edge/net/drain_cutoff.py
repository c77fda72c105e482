"""Ends all exchanges that are left at the end of a drain, each with a response or a visible abort, and an access
log line.

    no response byte was sent ─► 503 `edge_stopped`     response under way ─► truncated, visibly for the client
    tunnel ─► both of its connections closed            idle connection ─► closed

Bytes that are written have a short time to be sent; the connection of a client that does not read them is reset.
"""

import asyncio

from edge.net.accept.lingering_close import LingeringClose
from edge.net.accept.proxy_protocol_reader import ProxyProtocolReader
from edge.net.h1.h1_connection import H1Connection
from edge.net.h1.tunnel import Tunnel
from edge.net.h2.h2_connection import H2Connection
from edge.net.tls.tls_accept import TlsAccept
from edge.net.worker_context import WorkerContext

BATCH = 100
"Connections that are ended before the loop gets a turn; about 50 microseconds each."
POLL = 0.01
"Seconds between two passes over the connections that are still open."
CLOSE_TIMEOUT = 0.25
"Seconds for the loop to report that aborted connections are closed; it takes a turn or two."


async def cut_off(context: WorkerContext, flush_timeout: float) -> None:
    """End all exchanges, tunnels and client connections, and reject requests that still arrive.

    Returns when all are closed, at the latest soon after `flush_timeout` seconds; by then every exchange has been
    observed.
    """
    context.head_reader = context.head_reader.closed()
    deadline = context.clock() + flush_timeout
    while context.counts.connections:
        await _end(context, drop=False)
        if context.clock() >= deadline:
            break
        # An event instead would be work in the path of every request.
        await asyncio.sleep(POLL)
    deadline = context.clock() + CLOSE_TIMEOUT
    while context.counts.connections and context.clock() < deadline:
        await _end(context, drop=True)
        await asyncio.sleep(0)


async def _end(context: WorkerContext, *, drop: bool) -> None:
    for count, member in enumerate(context.deadline_sweep, 1):
        if isinstance(
            member, H1Connection | H2Connection | ProxyProtocolReader | TlsAccept | LingeringClose | Tunnel
        ):
            if drop:
                member.drop()
            else:
                member.stop()
        if count % BATCH == 0:
            await asyncio.sleep(0)
