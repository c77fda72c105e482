"""An index of routes by site, environment and server, so that a change does not need a scan of all routes.

    site         ─► hostnames
    environment  ─► hostnames       ("site/environment")
    server       ─► hostnames       (of any backend of the route)

It holds exactly the routes that are ready in the table; compact ones are checked when they are promoted
(`invalidation.LastChanges`). For 50,000 routes of three backends it costs 220 bytes each, most of it for the names
of environments and the slots in the sets of servers.
"""

from edge.rules.routing.change_records import Change
from edge.rules.routing.route_response import RouteResponse

_Hostnames = str | dict[str, None]
"""A single hostname is stored as a string: most environments and many sites have one, and an empty set alone has
216 bytes. Several are the keys of a dict: half the size of a set, and ordered by insertion."""


class RouteIndex:
    """Hostnames by site, environment and servers. Adding and discarding costs O(backends)."""

    __slots__ = ("_by_kind", "backends")

    def __init__(self) -> None:
        self.backends = 0
        "Backends of all its routes together."
        self._by_kind: dict[str, dict[str, _Hostnames]] = {"site": {}, "environment": {}, "server": {}}

    def add(self, hostname: str, response: RouteResponse) -> None:
        """Add the route of a hostname; its former one must have been discarded."""
        self.backends += len(response.backends)
        for change in response.concerned_by():
            index = self._by_kind[change.kind]
            known = index.get(change.name)
            if known is None:
                index[change.name] = hostname
            elif isinstance(known, dict):
                known[hostname] = None
            elif known != hostname:
                index[change.name] = {known: None, hostname: None}

    def discard(self, hostname: str, response: RouteResponse) -> None:
        """Remove the route of a hostname."""
        self.backends -= len(response.backends)
        for change in response.concerned_by():
            index = self._by_kind[change.kind]
            known = index.get(change.name)
            if isinstance(known, dict):
                known.pop(hostname, None)
                if not known:
                    del index[change.name]
            elif known == hostname:
                del index[change.name]

    def hostnames(self, change: Change) -> list[str]:
        """Return a list of the hostnames that a change of a site, an environment or a server concerns; of other
        kinds: none."""
        known = self._by_kind.get(change.kind, {}).get(change.name)
        if known is None:
            return []
        return list(known) if isinstance(known, dict) else [known]

    def count(self, change: Change) -> int:
        """Number of these hostnames."""
        known = self._by_kind.get(change.kind, {}).get(change.name)
        return 0 if known is None else len(known) if isinstance(known, dict) else 1

    def oldest(self, change: Change) -> str | None:
        """The one of these hostnames whose route was added first; None = there is none."""
        known = self._by_kind.get(change.kind, {}).get(change.name)
        return next(iter(known)) if isinstance(known, dict) else known
