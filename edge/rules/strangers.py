"""Hostnames that nobody has: who asks for many of them is not asked for any more.

A question about a hostname that exists costs nobody anything, so a client with a thousand sites may open them all
at once. Each that does not exist is put on the bill of the client that named it, and on that of all clients
together. As long as a bill is too high, hostnames that are not known are answered without asking the core API.
(Leaky buckets, each one number, as in ITU-T I.371. Caddy's `on_demand_tls.ask` and Envoy's on-demand discovery
have no limit at all.)
"""

from cachetools import LRUCache

from edge.rules.settings import LimitSettings

BURST, BURST_OF_ALL = 10.0, 1.0
"Seconds worth of a rate that may come at once, of one client and of all: a question costs a millisecond."
CLIENTS = 20_000
"Clients with a bill; beyond it the oldest bill is forgotten."


class Strangers:
    """One worker's bills."""

    __slots__ = ("_all", "_bills", "_limits")

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._bills: LRUCache[str | bytes, float] = LRUCache(CLIENTS)
        "When each will have been forgiven everything."
        self._all = 0.0

    def obey(self, limits: LimitSettings) -> None:
        """Judge by these limits from now on."""
        self._limits = limits

    def admits(self, client: str | bytes, now: float) -> bool:
        """Whether the core API may be asked for a hostname that is not known, for this client's sake; "" = nobody
        knows whose."""
        if self._limits.unknown_hosts and self._all - now > BURST_OF_ALL:
            return False
        return not self._limits.unknown_hosts_per_client or self._bills.get(client, 0.0) - now <= BURST

    def found_none(self, client: str | bytes, now: float) -> None:
        """The core API was asked for this client, and there is no such hostname."""
        for_all, for_each = self._limits.unknown_hosts, self._limits.unknown_hosts_per_client
        if for_all:
            self._all = max(self._all, now) + 1.0 / for_all
        if for_each and client:
            self._bills[client] = max(self._bills.get(client, 0.0), now) + 1.0 / for_each
