"""Backends that an operator has set aside: no new requests for one, for a server, or for a whole environment.

Each ends by itself after the time that was said, so that nobody forgets it. Pure: `now` is an argument.
"""

from typing import Final

KINDS: Final = ("backend", "server", "environment")
"What may be drained; an environment is named `site/environment`."
MOST: Final = 1000
"Drains at once."


class TooManyDrains(Exception):
    """Nobody drains so much by hand."""


class Drains:
    """What is set aside, and until when."""

    __slots__ = ("_until",)

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def __len__(self) -> int:
        return len(self._until)

    def set(self, kind: str, name: str, until: float | None) -> None:
        """Set aside until then; None = as usual again. Raises TooManyDrains, or ValueError for another kind."""
        if kind not in KINDS:
            raise ValueError(f"{kind} is none of {', '.join(KINDS)}")
        if until is None:
            self._until.pop((kind, name), None)
        elif (kind, name) not in self._until and len(self._until) >= MOST:
            raise TooManyDrains(f"{MOST} drains are under way; end some, or wait for them")
        else:
            self._until[kind, name] = until

    def expire(self, now: float) -> float | None:
        """Forget those whose time is over. When the next one ends; None = there are no more."""
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key]
        return min(self._until.values(), default=None)

    def left(self, now: float) -> list[tuple[str, str, float]]:
        """Kind, name and remaining seconds of each."""
        return [(kind, name, until - now) for (kind, name), until in self._until.items() if until > now]

    def hold(self, backend: str, server: str, environment: str) -> bool:
        """Whether this backend gets no new requests."""
        until = self._until
        return ("backend", backend) in until or ("server", server) in until or ("environment", environment) in until
