"""Drains by an operator: no new requests for a backend, for the backends of a server, or of a whole environment.

Each drain ends by itself after the given time, so that none is forgotten. Pure: `now` is an argument.
"""

from typing import Final

KINDS: Final = ("backend", "server", "environment")
"Kinds of drains; an environment is named `site/environment`."
MOST: Final = 1000
"Maximum number of drains at the same time."


class TooManyDrains(Exception):
    """There are as many drains as there may be."""


class Drains:
    """The drains under way, and when each ends."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def set(self, kind: str, name: str, until: float | None) -> None:
        """Begin a drain, or change its end, to `until`; None = end it. Raises TooManyDrains, or ValueError for
        another kind."""
        if kind not in KINDS:
            raise ValueError(f"{kind} is none of {', '.join(KINDS)}")
        if until is None:
            self._until.pop((kind, name), None)
        elif (kind, name) not in self._until and len(self._until) >= MOST:
            raise TooManyDrains(f"{MOST} drains are under way; end some, or wait for them")
        else:
            self._until[kind, name] = until

    def expire(self, now: float) -> float | None:
        """Remove the drains that have ended. Returns when the next one ends; None = none is left."""
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key]
        return min(self._until.values(), default=None)

    def left(self, now: float) -> list[tuple[str, str, float]]:
        """Kind, name and remaining seconds of each drain."""
        return [(kind, name, until - now) for (kind, name), until in self._until.items() if until > now]

    def hold(self, backend: str, server: str, environment: str) -> bool:
        """Whether this backend gets no new requests."""
        until = self._until
        return ("backend", backend) in until or ("server", server) in until or ("environment", environment) in until
