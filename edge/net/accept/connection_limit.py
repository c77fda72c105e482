"""Who may come in: connections are counted, in total and for each client, and the one too many is told so.

    accepted ─► admit ─► a badge ───────────────────────────────────► leave
                 │  └─► full, but somebody is idle: closed instead ────┘
                 └─► None ─► turn_away ─► a badge while it lingers ────┘
                                └─► None: too many linger, just close

A client is an address; of IPv6 it is a /64, for any home has one and can connect from 2^64 addresses in it. A
trusted proxy speaks for many clients and is not counted by its own address; nor is a client on a Unix socket.
Whoever is turned away gets a 503 that is made already, and nothing of what it asks for is read: it must cost less
than to ask again. All is O(1), and nothing is remembered of a client that is not here.
"""

import logging
from collections.abc import Callable
from http import HTTPStatus
from time import time

from edge.rules.exchange_records import Outcome
from edge.rules.http.hop_by_hop import ClientInfo, status_line
from edge.rules.http.local_reply import LocalReplies, date_line
from edge.rules.limits.client_key import ClientKey, client_key
from edge.rules.limits.fd_shares import DescriptorShares
from edge.rules.outcomes import VERDICTS, Cause, Phase
from edge.rules.settings import LimitSettings

Permit = ClientKey
"What a connection gets at the entrance and gives back when it ends: the client that it is counted for."
UNCOUNTED: Permit = b""
TURNED_AWAY: Permit = b"turned away"
MAX_LINGERING = 1024
"Connections turned away that may wait for their client to read why."

log = logging.getLogger("styx.entrance")


class ConnectionLimiter:
    """Counts who is in. See the module."""

    __slots__ = (
        "_answer",
        "_answer_size",
        "_clients",
        "_inside",
        "_limits",
        "_lingering",
        "_makes_room",
        "_next_id",
        "_observe",
        "_shares",
    )

    def __init__(
        self,
        limits: LimitSettings,
        shares: DescriptorShares | None = None,
        *,
        makes_room: Callable[[], bool] = lambda: False,
        pages: LocalReplies,
        edge_line: bytes,
        next_id: Callable[[], bytes],
        observe: Callable[[Outcome], None],
    ) -> None:
        """`shares`: of open files; None = there are enough. `makes_room`: closes a connection that is idle, if
        there is one."""
        self._limits = limits
        self._shares = shares or DescriptorShares(limits.connections)
        self._makes_room = makes_room
        self._next_id = next_id
        self._observe = observe
        self._answer, self._answer_size = _prepared(pages, edge_line)
        self._inside = 0
        self._clients: dict[Permit, int] = {}
        "Connections of each client that is counted by itself."
        self._lingering = 0

    def reconfigure(self, limits: LimitSettings, shares: DescriptorShares | None = None) -> None:
        """Who is in, stays."""
        self._limits = limits
        self._shares = shares or DescriptorShares(limits.connections)

    def __repr__(self) -> str:
        return f"<Entrance inside={self._inside} clients={len(self._clients)} lingering={self._lingering}>"

    @property
    def accepted_at_once(self) -> int:
        """How many connections may be accepted before it is decided about them: each holds an open file. Beyond the
        limit of the process libuv would accept and close whatever waits (uv__emfile_trick)."""
        return self._shares.lingering

    def admit(self, peer: ClientInfo) -> Permit | None:
        """A badge for a new connection; None = there is no room for it."""
        most, permit = self._limits.connections_per_client, UNCOUNTED
        if self._inside >= self._shares.clients and not self._makes_room():
            _log_refusal(peer, "limits.connections")
            return None
        if most and not peer.trusted:
            permit = client_key(peer.address)
            here = self._clients.get(permit, 0)
            if here >= most:
                _log_refusal(peer, "limits.connections_per_client")
                return None
            self._clients[permit] = here + 1
        self._inside += 1
        return permit

    def leave(self, permit: Permit | None) -> None:
        """The connection with this badge has ended."""
        if permit is None:
            return
        if permit is TURNED_AWAY:
            self._lingering -= 1
            return
        self._inside -= 1
        if permit is not UNCOUNTED:
            here = self._clients[permit] - 1
            if here:
                self._clients[permit] = here
            else:
                del self._clients[permit]

    def turn_away(self, peer: ClientInfo, write: Callable[[bytes], object]) -> Permit | None:
        """Tell a connection that was not admitted why. A badge for the time that it lingers; None = it must not:
        too many do, or there is no open file for it."""
        if self._lingering >= MAX_LINGERING:
            return None
        lingers = self._lingering < self._shares.lingering
        self._lingering += lingers
        request_id = self._next_id()
        now = time()
        write(self._answer % (self._answer_size + len(request_id), date_line(int(now)), request_id, request_id))
        self._observe(
            Outcome(
                time=now,
                id=request_id.decode("ascii"),
                client=peer.address,
                method="",
                host="",
                target="",
                status=_VERDICT.status,
                bytes_in=0,
                bytes_out=self._answer_size + len(request_id),
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
            )
        )
        return TURNED_AWAY if lingers else None


_VERDICT = VERDICTS[Cause.EDGE_OVERLOADED]


def _prepared(pages: LocalReplies, edge_line: bytes) -> tuple[bytes, int]:
    """The answer with holes for length, date, and twice the id of the request; and that length less the id's."""
    mark = "\0"
    page = pages.error(Cause.EDGE_OVERLOADED, accept=b"", host="", request_id=mark)
    head = b"".join((status_line(page.status, HTTPStatus(page.status).phrase.encode("ascii")), page.lines))
    holes = b"Content-Length: %d\r\n%bX-Request-Id: %b"
    end = edge_line + b"Connection: close\r\n\r\n"
    body = page.body.replace(b"%", b"%%").replace(mark.encode(), b"%b")
    return head.replace(b"%", b"%%") + holes + end.replace(b"%", b"%%") + body, len(page.body) - len(mark)


def _log_refusal(peer: ClientInfo, limit: str) -> None:
    log.debug("connection refused", extra={"code": "connection_refused", "client": peer.address, "limit": limit})
