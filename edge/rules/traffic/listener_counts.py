"""Counters of one listener in one worker, kept where its clients are."""


class ListenerCounts:
    """Counts for one listener; all its sockets, of all slots for which this worker accepts, count together."""

    __slots__ = ("accepted", "connections", "name", "requests")

    def __init__(self, name: str) -> None:
        self.name = name
        "Its address, as in the settings."
        self.accepted = 0
        "Connections."
        self.connections = 0
        "Connections that are open now."
        self.requests = 0


NO_LISTENER = ListenerCounts("")
"Of a client that did not come from a listener, as in tests."
