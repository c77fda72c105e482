"""The removal guard: it decides whether a response that removes all backends of a known hostname is accepted.

A removal is a response without a usable backend for a hostname that had some: an empty list, every backend
draining, or 404. When a single site is switched off, the response has a higher generation and is accepted at once.
So is maintenance or a redirect in place of a site, whatever the generation, unless it is one of many; of a site of
which no backend can be reached it is always accepted, and not judged here.
Two kinds of removal are held back, and accepted only when the core API has repeated them for `routes.removal_hold`
seconds without another response in between:

    unconfirmed     404, or no higher generation: an API that has lost its data responds like this
    mass            a tenth of the environments in use, and at least ten, lose everything within ten seconds, or
                    go into maintenance, or are redirected, whatever the generation: a bad deployment of the
                    platform looks like this

Removals that were accepted in the seconds before a mass removal became visible are undone. (Static stability: a
control plane that fails must not take the data plane along. Envoy and HAProxy remove what they are told to.)
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

MASS_WINDOW = 10.0
"Seconds within which removals are counted together."
MASS_LEAST, MASS_PART = 10, 0.1
"""Environments, and part of those in use, that must have lost everything for a mass removal: at least the first,
and more than the second."""
FORGOTTEN_AFTER = 600.0
"Seconds after which a removal that was not repeated starts its hold time again."
CAPACITY = 10_000
"Maximum of hostnames with a held back or a recent removal. Beyond it, removals are held back."

T = TypeVar("T")


class Removal(StrEnum):
    """The decision about a removal."""

    ACCEPTED = "accepted"
    UNCONFIRMED = "removal_unconfirmed"
    MASS = "removal_held_back"


class _Claim(NamedTuple):
    """A removal that is held back: its first and last time, and whether it was part of a mass removal."""

    since: float
    last: float
    mass: bool


class _Accepted(NamedTuple, Generic[T]):
    """A removal that was accepted, when, and what was known before."""

    at: float
    before: T


class Undone(NamedTuple, Generic[T]):
    """A hostname whose removal is undone, and what was known before."""

    hostname: str
    before: T


class RemovalGuard(Generic[T]):
    """The removal guard of one worker. `T` is what the caller knows of a hostname, to be restored."""

    __slots__ = ("_accepted", "_capacity", "_claims", "_in_use", "_in_use_at", "_losers")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._claims: dict[str, _Claim] = {}
        "Removals that are held back, by hostname."
        self._accepted: dict[str, _Accepted[T]] = {}
        "Removals that were accepted within the last MASS_WINDOW seconds."
        self._losers: dict[str, float] = {}
        """Environments that lost everything, accepted or not, and the time of the last such response; the latest is
        last."""
        self._in_use, self._in_use_at = 0, float("-inf")
        "Environments in use, and when they were counted."

    def judge(
        self,
        hostname: str,
        environment: str,
        before: T,
        now: float,
        *,
        confirmed: bool,
        hold: float,
        in_use: Callable[[], int],
    ) -> Removal:
        """Record a removal of this hostname of an `environment` (site/name), and decide about it.

        `confirmed`: it has a higher generation, or leaves a page or a redirect of the site owner. `hold`: seconds
        for which it must be repeated otherwise. `in_use`: counts the environments in use; called at most once in
        MASS_WINDOW seconds, and only when ten have lost everything.
        """
        self._note_loser(environment, now)
        mass = self._detect_mass(now, in_use)
        claim = self._claims.pop(hostname, None)
        if claim is None or now - claim.last > FORGOTTEN_AFTER:
            claim = _Claim(now, now, mass)
        mass = mass or claim.mass
        if now - claim.since >= hold:
            return Removal.ACCEPTED
        if self._make_room(now):
            if confirmed and not mass:
                self._accepted[hostname] = _Accepted(now, before)
                return Removal.ACCEPTED
            self._claims[hostname] = _Claim(claim.since, now, mass)
        return Removal.MASS if mass else Removal.UNCONFIRMED

    def held_since(self, hostname: str) -> float | None:
        """Time since which a removal of this hostname is held back; None = there is none."""
        claim = self._claims.get(hostname)
        return None if claim is None else claim.since

    def settle(self, hostname: str, *, is_back: bool = True) -> None:
        """Record another response for this hostname: its removal is no longer held back. `is_back`: nor will it be
        undone, because the hostname has what it had. (Routes may be looked up again every second, so the removal
        itself is repeated before many of them are visible.)"""
        if self._claims:
            self._claims.pop(hostname, None)
        if is_back and self._accepted:
            self._accepted.pop(hostname, None)

    def undo(self, now: float) -> list[Undone[T]]:
        """Undo the removals that were accepted before a mass removal was visible: each hostname once. To be called
        after `judge` has returned MASS. From now on they are held back as the others are."""
        undone = [Undone(hostname, a.before) for hostname, a in self._accepted.items() if now - a.at <= MASS_WINDOW]
        for hostname, accepted in self._accepted.items():
            self._claims[hostname] = _Claim(accepted.at, now, mass=True)
        self._accepted.clear()
        return undone

    def _note_loser(self, environment: str, now: float) -> None:
        self._losers.pop(environment, None)
        self._losers[environment] = now
        while self._losers:
            oldest = next(iter(self._losers))
            if now - self._losers[oldest] <= MASS_WINDOW:
                return
            del self._losers[oldest]

    def _detect_mass(self, now: float, in_use: Callable[[], int]) -> bool:
        """Return whether this is a mass removal; counts the environments in use if necessary."""
        if len(self._losers) < MASS_LEAST:
            return False
        if now - self._in_use_at > MASS_WINDOW:
            self._in_use, self._in_use_at = in_use(), now
        return len(self._losers) > MASS_PART * self._in_use

    def _make_room(self, now: float) -> bool:
        """Drop what has expired if the guard is full; returns whether there is room for one more."""
        if len(self._claims) + len(self._accepted) < self._capacity:
            return True
        self._claims = {h: c for h, c in self._claims.items() if now - c.last <= FORGOTTEN_AFTER}
        self._accepted = {h: a for h, a in self._accepted.items() if now - a.at <= MASS_WINDOW}
        return len(self._claims) + len(self._accepted) < self._capacity
