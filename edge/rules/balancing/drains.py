"""Drains by an operator: no new requests for a backend, for the backends of a server, or of a whole environment.

Each drain ends by itself after the given time, so that none is forgotten. Pure: `now` is an argument.
"""

from typing import Final, NamedTuple

KINDS: Final = ("backend", "server", "environment")
"""Kinds of drains. An environment is named `site/environment`; a backend `site/environment/id`, because its id is
unique in its environment only."""
MOST: Final = 1000
"Maximum number of drains at the same time."


class TooManyDrains(Exception):
    """There are as many drains as there may be."""


class ActiveDrain(NamedTuple):
    """A drain under way."""

    kind: str
    name: str
    until: float
    "When it ends by itself."
    by: str = ""
    "Who began it: a user of this machine, or `the admin token`."


class Drains:
    """The drains under way."""

    __slots__ = ("_active",)

    def __init__(self) -> None:
        self._active: dict[tuple[str, str], ActiveDrain] = {}

    def __len__(self) -> int:
        return len(self._active)

    def has(self, kind: str, name: str) -> bool:
        """Whether this drain is under way."""
        return (kind, name) in self._active

    def set(self, kind: str, name: str, until: float | None, by: str = "") -> None:
        """Begin a drain, or change its end, to `until`; None = end it. Raises TooManyDrains, or ValueError for
        another kind."""
        if kind not in KINDS:
            raise ValueError(f"{kind} is none of {', '.join(KINDS)}")
        if until is None:
            self._active.pop((kind, name), None)
        elif (kind, name) not in self._active and len(self._active) >= MOST:
            raise TooManyDrains(f"{MOST} drains are under way; end some, or wait for them")
        else:
            self._active[kind, name] = ActiveDrain(kind, name, until, by)

    def expire(self, now: float) -> float | None:
        """Remove the drains that have ended. Returns when the next one ends; None = none is left."""
        for key in [key for key, drain in self._active.items() if drain.until <= now]:
            del self._active[key]
        return min((drain.until for drain in self._active.values()), default=None)

    def left(self, now: float) -> list[tuple[str, str, float, str]]:
        """Kind, name, remaining seconds and originator of each drain."""
        return [(d.kind, d.name, d.until - now, d.by) for d in self._active.values() if d.until > now]

    def hold(self, backend: str, server: str, environment: str) -> bool:
        """Whether this backend gets no new requests. `backend`: its id."""
        return bool(self.of_backend(backend, server, environment))

    def of_backend(self, backend: str, server: str, environment: str) -> list[ActiveDrain]:
        """The drains that concern this backend. `backend`: its id."""
        if not self._active:
            return []
        names = (("backend", f"{environment}/{backend}"), ("server", server), ("environment", environment))
        return [self._active[name] for name in names if name in self._active]
