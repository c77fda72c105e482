"""The connection limit: counts client connections, in total and for each client, and rejects those beyond a limit.

    accepted ─► admit ─► a permit ──────────────────────────────────► leave
                 │  └─► full: an idle connection is closed instead ────┘
                 └─► None ─► turn_away ─► a permit while it lingers ───┘
                                └─► None: too many linger, just close

A client is an IPv4 address or an IPv6 /64, because any home has a /64 and can connect from 2^64 addresses in it. A
trusted proxy connects for many clients, so it is not counted by its own address; nor is a client on a Unix socket.
A rejected connection gets a prepared 503, and its request is not read: rejecting must cost less than connecting
again. Every operation is O(1), and nothing is stored about a client without connections.
"""

import logging
from collections.abc import Callable
from http import HTTPStatus
from time import time
from typing import Final

from edge.net.request.request_ids import RequestIds
from edge.rules.exchange_records import DetailedOutcome, Outcome
from edge.rules.h2.h2_frames import ErrorCode
from edge.rules.h2.output_frames import goaway_frame, settings_frame
from edge.rules.http.hop_by_hop import ClientInfo, status_line
from edge.rules.http.local_reply import LocalReplies, date_line
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.limits.fd_shares import DescriptorShares
from edge.rules.outcomes import VERDICTS, Cause, Phase
from edge.rules.settings import LimitSettings

Permit = ClientKey
"What a connection gets when it is admitted and returns when it ends: the client that it is counted for."
UNCOUNTED: Final[Permit] = b""
REJECTED: Final[Permit] = b"turned away"
MAX_LINGERING: Final = 1024
"Rejected connections that may linger until their client has read the 503."

log = logging.getLogger("styx.connection_limit")


class ConnectionLimiter:
    """Counts the client connections of one worker and rejects those beyond a limit."""

    __slots__ = (
        "_admitted",
        "_clients",
        "_lingering",
        "_makes_room",
        "_observe",
        "_per_client",
        "_request_ids",
        "_response",
        "_response_size",
        "_shares",
        "most_lingering",
    )

    def __init__(
        self,
        limits: LimitSettings,
        shares: DescriptorShares | None = None,
        *,
        makes_room: Callable[[], bool] = lambda: False,
        pages: LocalReplies,
        edge_line: bytes,
        request_ids: RequestIds,
        observe: Callable[[Outcome], None],
    ) -> None:
        """`shares`: the shares of open files; None = there are enough. `makes_room`: closes an idle connection and
        returns whether there was one. `observe`: receives the outcome of each rejected connection that got a
        503."""
        self.reconfigure(limits, shares)
        self._makes_room = makes_room
        self._request_ids = request_ids
        self._observe = observe
        self._response, self._response_size = _prepared(pages, edge_line)
        self._admitted = 0
        self._clients: dict[Permit, int] = {}
        "Number of connections of each client that is counted by its address."
        self._lingering = 0
        self.most_lingering = MAX_LINGERING

    def reconfigure(self, limits: LimitSettings, shares: DescriptorShares | None = None) -> None:
        """Admit by new limits from now on. Connections that are beyond them stay."""
        self._per_client = limits.connections_per_client
        self._shares = shares or DescriptorShares(limits.connections)

    def __repr__(self) -> str:
        clients, lingering = len(self._clients), self._lingering
        return f"<ConnectionLimiter admitted={self._admitted} clients={clients} lingering={lingering}>"

    @property
    def accepted_at_once(self) -> int:
        """How many connections may be accepted before `admit` has decided about them; each holds an open file. At
        the limit of open files libuv would accept and close all connections in the queue (uv__emfile_trick)."""
        return self._shares.lingering

    def admit(self, client: ClientInfo) -> Permit | None:
        """Admit a new connection and return its permit; None = it is beyond a limit."""
        limit, permit = self._per_client, UNCOUNTED
        if self._admitted >= self._shares.clients and not self._makes_room():
            _log_rejection(client, "limits.connections")
            return None
        if limit and not client.trusted:
            permit = client_key(client.address)
            count = self._clients.get(permit, 0)
            if count >= limit:
                _log_rejection(client, "limits.connections_per_client")
                return None
            self._clients[permit] = count + 1
        self._admitted += 1
        return permit

    def leave(self, permit: Permit | None) -> None:
        """Return the permit of a connection that has ended."""
        if permit is None:
            return
        if permit is REJECTED:
            self._lingering -= 1
            return
        self._admitted -= 1
        if permit is not UNCOUNTED:
            count = self._clients[permit] - 1
            if count:
                self._clients[permit] = count
            else:
                del self._clients[permit]

    def turn_away(
        self, client: ClientInfo, write: Callable[[bytes], object], *, over_h2: bool = False
    ) -> Permit | None:
        """Send the 503, or `over_h2` a GOAWAY, to a connection that was not admitted, unless `most_lingering`
        connections linger. Returns a permit for the time that it lingers; None = close it at once: too many linger,
        or no open file is left for it."""
        if self._lingering >= self.most_lingering:
            return None
        lingers = self._lingering < self._shares.lingering
        self._lingering += lingers
        request_id = self._request_ids.next()
        now = time()
        size = 0 if over_h2 else self._response_size + len(request_id)
        write(_GOAWAY if over_h2 else self._response % (size, date_line(int(now)), request_id, request_id))
        self._observe(
            DetailedOutcome(
                time=now,
                id=request_id.decode("ascii"),
                client=client.address,
                method="",
                host="",
                target="",
                status=_VERDICT.status,
                bytes_in=0,
                bytes_out=size,
                site="",
                environment="",
                backend="",
                phase=Phase.HEAD,
                blame=_VERDICT.blame,
                cause=Cause.EDGE_OVERLOADED,
                resolve_ms=0.0,
                connect_ms=0.0,
                first_byte_ms=0.0,
                total_ms=0.0,
                overhead_ms=0.0,
                attempts=[],
                protocol="h2" if over_h2 else "",
                scheme=client.scheme.decode(),
                client_port=client.client_port,
                peer=client.peer,
                peer_port=client.peer_port,
                listener=client.listener.name,
                phase_name="head",
                blame_name=_VERDICT.blame.name.lower(),
            )
        )
        return REJECTED if lingers else None


_VERDICT: Final = VERDICTS[Cause.EDGE_OVERLOADED]
_GOAWAY: Final = settings_frame() + goaway_frame(
    0, ErrorCode.ENHANCE_YOUR_CALM, b"edge_overloaded: too many connections"
)
"""The preface of a server, and the end (RFC 9113, sections 3.4 and 6.8). No stream was opened: a client may repeat
all of its requests elsewhere, and one that shows errors shows the text."""


def _prepared(pages: LocalReplies, edge_line: bytes) -> tuple[bytes, int]:
    """Prepare the 503, with placeholders for the length, the date and, twice, the request id; also return the
    length of the body without the id."""
    marker = "\0"
    page = pages.error(Cause.EDGE_OVERLOADED, accept=b"", host="", request_id=marker)
    head = b"".join((status_line(page.status, HTTPStatus(page.status).phrase.encode("ascii")), page.lines))
    placeholders = b"Content-Length: %d\r\n%bX-Request-Id: %b"
    end = edge_line + b"Connection: close\r\n\r\n"
    body = page.body.replace(b"%", b"%%").replace(marker.encode(), b"%b")
    return head.replace(b"%", b"%%") + placeholders + end.replace(b"%", b"%%") + body, len(page.body) - len(marker)


def _log_rejection(client: ClientInfo, limit: str) -> None:
    log.debug(
        "connection over a limit refused",
        extra={"code": "connection_refused", "client": client.address, "limit": limit},
    )
