"""Which routes a change concerns, without a look at all of them.

    site         ─► hostnames
    environment  ─► hostnames       ("site/environment")
    server       ─► hostnames       (of any backend of the route)

It holds exactly the routes that are ready in the table; compact ones are compared when they come back
(`changes.LastChanges`). 50,000 routes of three backends cost 220 bytes each, most of it the names of environments
and the places in the sets of servers.
"""

from edge.rules.routing.change_records import Change
from edge.rules.routing.route_response import RouteAnswer

_Hostnames = str | dict[str, None]
"""One hostname as itself, for most environments and many sites have one, and an empty set alone has 216 bytes. More
of them as the keys of a dict: half the size of a set, and in the order in which they came."""


class RouteIndex:
    """Hostnames by what may change of their routes. Adding and discarding costs O(backends)."""

    __slots__ = ("_by_kind",)

    def __init__(self) -> None:
        self._by_kind: dict[str, dict[str, _Hostnames]] = {"site": {}, "environment": {}, "server": {}}

    def add(self, hostname: str, answer: RouteAnswer) -> None:
        """The route of this hostname is this answer from now on; what it was before must have been discarded."""
        for change in answer.concerned_by():
            index = self._by_kind[change.kind]
            known = index.get(change.name)
            if known is None:
                index[change.name] = hostname
            elif isinstance(known, dict):
                known[hostname] = None
            elif known != hostname:
                index[change.name] = {known: None, hostname: None}

    def discard(self, hostname: str, answer: RouteAnswer) -> None:
        """The route of this hostname is no longer this answer."""
        for change in answer.concerned_by():
            index = self._by_kind[change.kind]
            known = index.get(change.name)
            if isinstance(known, dict):
                known.pop(hostname, None)
                if not known:
                    del index[change.name]
            elif known == hostname:
                del index[change.name]

    def hostnames(self, change: Change) -> list[str]:
        """Those that a change of a site, an environment or a server concerns, as of now. Of another kind: none."""
        known = self._by_kind.get(change.kind, {}).get(change.name)
        if known is None:
            return []
        return list(known) if isinstance(known, dict) else [known]

    def count(self, change: Change) -> int:
        """How many that are."""
        known = self._by_kind.get(change.kind, {}).get(change.name)
        return 0 if known is None else len(known) if isinstance(known, dict) else 1

    def oldest(self, change: Change) -> str | None:
        """Of those, the one whose route was added longest ago; None = there is none."""
        known = self._by_kind.get(change.kind, {}).get(change.name)
        return next(iter(known)) if isinstance(known, dict) else known
