"""The end of a drain: what is still in hand ends now, and each client and the access log are told.

    no response byte was sent ─► 503 `edge_stopped`     response under way ─► cut off, so that the client can tell
    tunnel ─► both of its connections closed            idle connection ─► closed

What was written has a short time to leave; a client that does not take it is reset.
"""

import asyncio

from edge.net.accept.lingering_close import LingeringClose
from edge.net.accept.proxy_protocol_reader import ProxyProtocolReader
from edge.net.h1.h1_connection import H1Connection
from edge.net.h1.tunnel import Tunnel
from edge.net.worker_context import WorkerContext

AT_ONCE = 100
"Connections that are ended before the loop has a turn; some 50 microseconds each."
POLL = 0.01
GONE_WITHIN = 0.25
"Seconds for the loop to tell that aborted connections are gone; it takes a turn or two."


async def cut_off(context: WorkerContext, flush_timeout: float) -> None:
    """End all exchanges, tunnels and client connections, and refuse what is still asked.

    Returns when they are gone, or after `flush_timeout` seconds; by then every exchange has been observed.
    """
    context.head_reader = context.head_reader.closed()
    deadline = context.clock() + flush_timeout
    while context.counts.connections:
        await _end(context, drop=False)
        if context.clock() >= deadline:
            break
        # An event instead would be work on the path of every request.
        await asyncio.sleep(POLL)
    deadline = context.clock() + GONE_WITHIN
    while context.counts.connections and context.clock() < deadline:
        await _end(context, drop=True)
        await asyncio.sleep(0)


async def _end(context: WorkerContext, *, drop: bool) -> None:
    for count, member in enumerate(context.deadline_sweep, 1):
        if isinstance(member, H1Connection | ProxyProtocolReader | LingeringClose | Tunnel):
            if drop:
                member.drop()
            else:
                member.stop()
        if count % AT_ONCE == 0:
            await asyncio.sleep(0)
