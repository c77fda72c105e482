"""The objects that all HTTP/2 connections of a worker share: caches of heads, and counters."""

from typing import Final

from edge.rules.event_rate_limit import EventBudget
from edge.rules.h2.h2_encode import ResponseFields, fields_of
from edge.rules.h2.h2_frames import GoAwayReason
from edge.rules.h2.h2_request import RequestHeads
from edge.rules.http.messages import Fields

REMEMBERED: Final = 4096
"Lines about backends whose fields are cached."


class H2Services:
    """The shared part of the HTTP/2 connections of one worker."""

    __slots__ = (
        "_edge_fields",
        "_of_lines",
        "connections",
        "events",
        "goaways",
        "requests",
        "resets",
        "responses",
        "streams",
    )

    def __init__(self, edge_line: bytes) -> None:
        """`edge_line`: the X-Styx-Edge line, encoded."""
        self.requests = RequestHeads()
        self.responses = ResponseFields()
        self._edge_fields = fields_of(edge_line)
        self._of_lines: dict[bytes, Fields] = {}
        self.events = EventBudget()
        "Of connections that were ended because of their client."
        self.connections = 0
        "Connections now."
        self.streams = 0
        "Streams since the start."
        self.resets = 0
        "Streams reset by the edge or by a client since the start."
        self.goaways = dict.fromkeys(GoAwayReason, 0)
        "Connections that the edge has ended, by reason."

    def own_fields(self, backend: bytes) -> Fields:
        """The fields with the names of the edge and of the backend. `backend`: the line with the latter."""
        known = self._of_lines.get(backend)
        if known is None:
            if len(self._of_lines) >= REMEMBERED:
                self._of_lines.clear()
            known = self._of_lines[backend] = [*self._edge_fields, *fields_of(backend)]
        return known
