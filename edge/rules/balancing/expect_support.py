"""Whether the backends of an environment answer `Expect: 100-continue`, so that nobody waits for those that do not.

A body that is too large to be sent twice is asked for first: a full container refuses by the head alone (RFC 9110,
section 10.1.1). nginx, Node and Go answer within a round trip; many others never do, and each upload would wait.

    unknown ──asked──► waiting, briefly ──100, or a response──► answers: asked each time, and waited for longer
       ▲                     └──silence──► silent: not asked ──SILENT_FOR──► unknown

While nothing is known only one upload at a time asks, and the others are sent at once. A 100 that comes late,
behind a body that was sent without it, corrects what a slow backend has taught.
"""

from typing import Literal

Asking = Literal["auto", "always", "never"]

FIRST_PATIENCE = 0.1
"Seconds for the answer while nothing is known: fifty times what a server next door takes, and no client notices."
PATIENCE = 1.0
"Seconds for the answer of those that are known to give one. (curl: 1 s.)"
ROUND_TRIPS = 4.0
"Of a backend that is far away, so many connect times are waited for on top of the first patience."
SILENT_FOR = 600.0
"Seconds for which backends that ignored the question are not asked again: a new version may answer."


class ExpectMemory:
    """What one environment has taught. Times are of the worker's clock."""

    __slots__ = ("_answers", "_silent_until")

    def __init__(self) -> None:
        self._answers = False
        self._silent_until = 0.0
        "Nobody asks before: the question was ignored, or the first one is still open."

    def timeout(self, asking: Asking, now: float, connect: float) -> float:
        """Seconds for which the answer to the question is waited for; 0 = it is not asked.

        `connect`: seconds that the connection took; 0 = it was there.
        """
        if asking == "never" or (asking == "auto" and now < self._silent_until):
            return 0.0
        if asking == "always" or self._answers:
            return PATIENCE
        return min(FIRST_PATIENCE + ROUND_TRIPS * connect, PATIENCE)

    def record_question(self, now: float, timeout: float) -> None:
        """A backend is asked."""
        if not self._answers:
            self._silent_until = max(self._silent_until, now + timeout)

    def record_answer(self) -> None:
        """A backend said 100, in time or not, or responded to the head alone."""
        self._answers = True
        self._silent_until = 0.0

    def record_silence(self, now: float) -> None:
        """The question was ignored, or refused with 417."""
        self._answers = False
        self._silent_until = now + SILENT_FOR

    def forget(self) -> None:
        """As if nothing had ever been asked."""
        self._answers = False
        self._silent_until = 0.0
