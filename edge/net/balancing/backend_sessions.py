"""The TLS sessions with which connections to backends are resumed, and when one is fetched from OpenSSL.

    first connection ─► full handshake
    the next one, or the end of the first, when something came on it ─► its session is fetched, and used from now on

In TLS 1.3 the session comes after the handshake, before or with the first response. Each look at one costs 0.4 ms:
for a connection that lasts longer than `UNUSED_SESSION`, and is the only one, there is none.

CPython from 3.10 to 3.12.7, and 3.13.0, loses 6 KiB at each look (python/cpython#116810). There it is done
`MOST_LOST` times, and every `LOSS_PAUSE` seconds at most: backends that are connected to most often come first.
"""

import logging
import ssl
import sys
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final

from cachetools import TTLCache

from edge.net.tls.tls_transport import TlsTransport

log = logging.getLogger("styx.backend_tls")

MOST_SESSIONS: Final = 2000
"Backends whose sessions are kept; each takes some 12 KiB: OpenSSL keeps the certificates of the backend with it."
UNUSED_SESSION: Final = 60.0
"""Seconds for which a session is kept after it was used last, and for which a connection may become the source of
one. Where containers come and go, most of those that are known belong to none any more; and one full handshake a
minute costs a backend nothing."""

LOSES_SESSIONS: Final = (3, 10) <= sys.version_info < (3, 12, 8) or sys.version_info[:3] == (3, 13, 0)
"Whether this Python never frees what `SSLObject.session` copies."
MOST_LOST: Final = 10_000
"Looks at sessions of a worker, where the memory of each is lost: 60 MiB in all."
LOSS_PAUSE: Final = 20.0
"Seconds between two of these looks: 1 MiB an hour."


class BackendSessions:
    """The sessions of one worker, by the names of backends."""

    __slots__ = ("_clock", "_look_pause", "_next_look", "_sessions", "_sources", "looks_left")

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        most_looks: float = MOST_LOST if LOSES_SESSIONS else inf,
        look_pause: float = LOSS_PAUSE if LOSES_SESSIONS else 0.0,
    ) -> None:
        """`most_looks`: how often a session is looked for; `look_pause`: seconds between two looks, at least."""
        self._clock = clock
        self._sessions: TTLCache[str, ssl.SSLSession | None] = TTLCache(MOST_SESSIONS, UNUSED_SESSION, timer=clock)
        "Each was made in a full handshake, in which the name was checked; None = the backend gives none."
        self._sources: TTLCache[str, TlsTransport] = TTLCache(MOST_SESSIONS, UNUSED_SESSION, timer=clock)
        "The latest connection that had a full handshake, while nobody has looked at its session."
        self.looks_left = most_looks
        "How often a session will still be looked for."
        self._look_pause = look_pause
        self._next_look = -inf

    def __repr__(self) -> str:
        known = sum(session is not None for session in self._sessions.values())
        return f"<BackendSessions {known} known, {len(self._sources)} to come>"

    def forget(self) -> None:
        """Drop all: they belong to a context that is not used any more."""
        self._sessions.clear()
        self._sources.clear()

    def session_for(self, name: str) -> ssl.SSLSession | None:
        """The session for the next connection; None = it has a full handshake."""
        source = self._sources.get(name)
        if source is not None and source.has_received and self._may_look():
            self._sources.pop(name, None)  # not `del`, here and below: time goes on, and what has expired is gone
            if not source.is_closing():
                self._fetch(name, source)
        session = self._sessions.get(name)
        if session is not None:
            self._sessions[name] = session  # used: its time begins anew
        return session

    def note_full_handshake(self, name: str, connection: TlsTransport, session: ssl.SSLSession | None) -> None:
        """Take note of a new connection, which was not resumed, though perhaps with this session."""
        if session is not None and self._sessions.get(name) is session:
            self._sessions.pop(name, None)  # refused, as by a container that was started anew
        if name not in self._sessions:
            self._sources[name] = connection
            connection.at_end = partial(self._fetch_at_end, name, connection)

    def _fetch_at_end(self, name: str, source: TlsTransport) -> None:
        """The last chance to fetch the session of a connection."""
        if self._sources.get(name) is source:
            self._sources.pop(name, None)
            if source.has_received and name not in self._sessions and self._may_look():
                self._fetch(name, source)

    def _may_look(self) -> bool:
        return self.looks_left > 0 and self._clock() >= self._next_look

    def _fetch(self, name: str, source: TlsTransport) -> None:
        """Look at the session of a connection whose SSLObject is still there."""
        self._next_look = self._clock() + self._look_pause
        self.looks_left -= 1
        if self.looks_left == 0:
            log.warning(
                "no more TLS sessions of backends",
                extra={"code": "backend_sessions_ended", "python": sys.version.split()[0]},
            )
        session = source.get_extra_info("ssl_object").session
        self._sessions[name] = session if session is not None and session.has_ticket else None
