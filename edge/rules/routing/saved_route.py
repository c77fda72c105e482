"""A route as it is stored in a record of a file, of a message between workers, or of Redis: without logic."""

import msgspec

from edge.rules.routing.route_response import RouteAnswer


class SavedRoute(msgspec.Struct, frozen=True, array_like=True):
    """What a record holds beside its hostname and the time of its confirmation. Times: seconds since the epoch."""

    fresh: float
    expired: float
    gone: float
    etag: str | None
    answer: RouteAnswer | None
    "None = there is no such hostname any more: forget it."
    overrides: bool = False
    "Whether it was accepted in place of a higher generation."
