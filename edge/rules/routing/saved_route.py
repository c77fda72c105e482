"""A route as it is saved in files, in Redis and in messages between workers: a record without logic."""

import msgspec

from edge.rules.routing.route_response import RouteResponse


class SavedRoute(msgspec.Struct, frozen=True, array_like=True):
    """The content of a record, besides its hostname and the time of its confirmation. Times: seconds since the
    epoch."""

    fresh: float
    "End of its freshness, then of stale-while-revalidate, then of stale-if-error."
    expired: float
    gone: float
    etag: str | None
    response: RouteResponse | None
    "None = the hostname does not exist any more: remove its route."
    overrides: bool = False
    "Whether it was accepted in place of a higher generation."
