"""Remembers whether the backends of an environment support `Expect: 100-continue`.

A request whose body is too large to be sent twice is sent with this field: a full container can then refuse it by
the head alone (RFC 9110, section 10.1.1). nginx, Node and Go respond within a round trip; many others never do, and
each upload would wait.

    unknown ──asked──► waiting, briefly ──100, or a response──► supported: always asked, with a longer timeout
       ▲                     └──timeout──► silent: not asked ──SILENT_FOR──► unknown

While nothing is known only one upload at a time asks, and the others are sent at once. A 100 that comes late, when
the body was already sent without it, corrects the memory: the backend is slow, but supports it.
"""

from typing import Final, Literal

Asking = Literal["auto", "always", "never"]

FIRST_TIMEOUT: Final = 0.1
"Seconds to wait while nothing is known: fifty times what a backend nearby takes, and no client notices."
TIMEOUT: Final = 1.0
"Seconds to wait for backends that are known to support it. (curl: 1 s.)"
ROUND_TRIPS: Final = 4.0
"Connect times that are added to the first timeout, for a backend that is far away."
SILENT_FOR: Final = 600.0
"Seconds for which backends that ignored the field are not asked again: a new version may support it."


class ExpectMemory:
    """The memory of one environment. Times are of the worker's clock."""

    __slots__ = ("_is_supported", "_silent_until")

    def __init__(self) -> None:
        self._is_supported = False
        self._silent_until = 0.0
        "No request asks before: the last one was ignored, or is still waiting."

    def timeout(self, asking: Asking, now: float, connect: float) -> float:
        """Seconds to wait for a 100; 0 = the request is sent without `Expect`.

        `connect`: seconds that the connect took; 0 = the connection was idle.
        """
        if asking == "never" or (asking == "auto" and now < self._silent_until):
            return 0.0
        if asking == "always" or self._is_supported:
            return TIMEOUT
        return min(FIRST_TIMEOUT + ROUND_TRIPS * connect, TIMEOUT)

    def record_expect(self, now: float, timeout: float) -> None:
        """Record that a request is sent with `Expect`, and waits for `timeout` seconds."""
        if not self._is_supported:
            self._silent_until = max(self._silent_until, now + timeout)

    def record_response(self) -> None:
        """Record that a backend sent 100, in time or not, or a final response to the head alone."""
        self._is_supported = True
        self._silent_until = 0.0

    def record_silence(self, now: float) -> None:
        """Record that no response came in time, or a 417."""
        self._is_supported = False
        self._silent_until = now + SILENT_FOR

    def forget(self) -> None:
        """Return to the unknown state."""
        self._is_supported = False
        self._silent_until = 0.0
