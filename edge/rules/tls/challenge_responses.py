"""The responses to the pending challenges of an ACME authority (http-01; RFC 8555, section 8.3).

GET /.well-known/acme-challenge/TOKEN  ─►  TOKEN.THUMBPRINT, for the hostname of the order and no other
"""

import re
from collections.abc import Iterable
from typing import Final

PREFIX: Final = b"/.well-known/acme-challenge/"
MOST: Final = 256
"Proofs at the same time: one for each order under way."
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,256}")
_RESPONSE: Final = re.compile(r"[A-Za-z0-9_-]{1,256}\.[A-Za-z0-9_-]{1,256}")

Challenge = tuple[str, str, str]
"Hostname, token, response."


class ChallengeResponses:
    """The proofs that are served now, in one worker."""

    __slots__ = ("_bodies", "served")

    def __init__(self) -> None:
        self._bodies: dict[tuple[str, bytes], bytes] = {}
        self.served = 0
        "How many were."

    def __len__(self) -> int:
        return len(self._bodies)

    def replace(self, challenges: Iterable[Challenge]) -> None:
        """Serve these, and no others. What is no token or no response is left out, and so are those beyond MOST."""
        bodies: dict[tuple[str, bytes], bytes] = {}
        for hostname, token, response in challenges:
            if len(bodies) < MOST and _TOKEN.fullmatch(token) and _RESPONSE.fullmatch(response):
                bodies[hostname, PREFIX + token.encode()] = response.encode()
        self._bodies = bodies

    def find(self, host: str, target: bytes) -> bytes | None:
        """The response to a request for this target; None = it is not one of them. `host`: as in `Request`."""
        return self._bodies.get((host, target))
