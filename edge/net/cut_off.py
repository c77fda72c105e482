"""The end of a drain: what is still in hand ends now, and each client and the access log are told.

    no response byte was sent ─► 503 `edge_stopped`     response under way ─► cut off, so that the client can tell
    tunnel ─► both of its connections closed            idle connection ─► closed

What was written has a short time to leave; a client that does not take it is reset.
"""

import asyncio

from edge.net.client_side import ClientConnection
from edge.net.greeting import Greeting
from edge.net.lingering import Lingering
from edge.net.services import Services
from edge.net.tunnel import Tunnel

AT_ONCE = 100
"Connections that are ended before the loop has a turn; some 50 microseconds each."
POLL = 0.01
GONE_WITHIN = 0.25
"Seconds for the loop to tell that aborted connections are gone; it takes a turn or two."


async def cut_off(services: Services, flush_timeout: float) -> None:
    """End all exchanges, tunnels and client connections, and refuse what is still asked.

    Returns when they are gone, or after `flush_timeout` seconds; by then every exchange has been observed.
    """
    services.intake = services.intake.closed()
    deadline = services.clock() + flush_timeout
    while services.counts.connections:
        await _end(services, drop=False)
        if services.clock() >= deadline:
            break
        # An event instead would be work on the path of every request.
        await asyncio.sleep(POLL)
    deadline = services.clock() + GONE_WITHIN
    while services.counts.connections and services.clock() < deadline:
        await _end(services, drop=True)
        await asyncio.sleep(0)


async def _end(services: Services, *, drop: bool) -> None:
    for count, member in enumerate(services.sweep, 1):
        if isinstance(member, ClientConnection | Greeting | Lingering | Tunnel):
            if drop:
                member.drop()
            else:
                member.stop()
        if count % AT_ONCE == 0:
            await asyncio.sleep(0)
