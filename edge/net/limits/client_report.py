"""Reports the clients that use most of a worker: only when asked, and in time slices."""

from collections import Counter
from typing import Final

from edge.net.h1.h1_connection import H1Connection
from edge.net.h2.h2_connection import H2Connection
from edge.net.h2.h2_stream import H2Stream
from edge.net.routing.pushed_routes import in_batches
from edge.net.worker_context import WorkerContext
from edge.rules.limits.client_key import ClientKey, client_key, client_name
from edge.rules.limits.client_records import ClientList, ClientNow

MOST: Final = 20
"Clients by each of the numbers."
AT_ONCE: Final = 200
"Connections that are counted in one turn of the loop; a microsecond or two each."


async def busiest_clients(context: WorkerContext, most: int = MOST) -> ClientList:
    """The clients with most connections, most requests in flight, or most unknown hostnames."""
    connections: Counter[ClientKey] = Counter()
    in_flight: Counter[ClientKey] = Counter()
    async for batch in in_batches(context.deadline_sweep, AT_ONCE):
        for member in batch:
            if isinstance(member, H1Connection | H2Connection):
                connections[client_key(member.info.address)] += 1
            if isinstance(member, H1Connection | H2Stream) and (exchange := member.exchange) is not None:
                in_flight[client_key(exchange.client_address or member.info.address)] += 1
    debtors = context.resolver.lookups.limit.debtors(context.clock())
    unknown_hosts = {client: debtor.charges for client, debtor in debtors.items()}
    chosen: dict[ClientKey, None] = {}
    for counts in (connections, in_flight, Counter(unknown_hosts)):
        chosen.update(dict.fromkeys(client for client, _ in counts.most_common(most)))
    clients = [
        ClientNow(
            client_name(client) if client else "unknown",
            connections[client],
            in_flight[client],
            unknown_hosts.get(client, 0),
            client in debtors and debtors[client].at_limit,
        )
        for client in chosen
    ]
    return ClientList(len({*connections, *in_flight, *unknown_hosts}), clients)
