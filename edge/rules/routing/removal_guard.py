"""Whether an answer of the core API that takes everything away from a known hostname is believed.

A removal is an answer without a usable backend for a hostname that had some: an empty list, every backend draining,
or 404. A single site that is switched off says so with a higher generation and goes at once. Two kinds of removal
are held back, and believed only when the core API has said so for `routes.removal_hold` seconds without a word to
the contrary:

    unconfirmed     404, or no higher generation: an API that has lost its data answers like this
    mass            a tenth of the environments in use, and at least ten, lose everything within ten seconds,
                    whatever the generation: a bad deployment of the platform looks like this

Removals that were believed in the seconds before a mass removal became visible are undone. (Static stability: a
control plane that fails must not take the data plane along. Envoy and HAProxy remove what they are told to.)
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Generic, NamedTuple, TypeVar

MASS_WINDOW = 10.0
"Seconds within which removals are counted together."
MASS_LEAST, MASS_PART = 10, 0.1
"Environments, and part of those in use, that make a removal a mass removal when it is more than that."
FORGOTTEN_AFTER = 600.0
"Seconds after which a removal that was not repeated has to be said for the whole time again."
CAPACITY = 10_000
"Hostnames with an open or a recent removal. What comes beyond is held back."

T = TypeVar("T")


class Removal(StrEnum):
    """What is done with a removal."""

    BELIEVED = "believed"
    UNCONFIRMED = "removal_unconfirmed"
    MASS = "removal_held_back"


class _Claim(NamedTuple):
    since: float
    last: float
    mass: bool


class _Believed(NamedTuple, Generic[T]):
    at: float
    before: T


class Undone(NamedTuple, Generic[T]):
    """A hostname whose removal was believed too early, and what was known before."""

    hostname: str
    before: T


class RemovalGuard(Generic[T]):
    """One worker's. `T` is whatever the caller keeps of a hostname, for it to be restored."""

    __slots__ = ("_believed", "_capacity", "_claims", "_in_use", "_in_use_at", "_losers")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._claims: dict[str, _Claim] = {}
        "Removals that are held back, by hostname."
        self._believed: dict[str, _Believed[T]] = {}
        "Removals that were believed within the last MASS_WINDOW seconds."
        self._losers: dict[str, float] = {}
        "Environments that lost everything, believed or not, and when that was said last; the latest is the last."
        self._in_use, self._in_use_at = 0, float("-inf")

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
        """A removal was said of this hostname of an `environment` (site/name). Records it.

        `confirmed`: by a higher generation. `hold`: seconds for which it must be said otherwise. `in_use`: counts
        the environments in use; called at most once in MASS_WINDOW seconds, and only when ten have lost everything.
        """
        self._note_loser(environment, now)
        mass = self._detect_mass(now, in_use)
        claim = self._claims.pop(hostname, None)
        if claim is None or now - claim.last > FORGOTTEN_AFTER:
            claim = _Claim(now, now, mass)
        mass = mass or claim.mass
        if now - claim.since >= hold:
            return Removal.BELIEVED
        if self._make_room(now):
            if confirmed and not mass:
                self._believed[hostname] = _Believed(now, before)
                return Removal.BELIEVED
            self._claims[hostname] = _Claim(claim.since, now, mass)
        return Removal.MASS if mass else Removal.UNCONFIRMED

    def settle(self, hostname: str) -> None:
        """The core API says something else of this hostname."""
        if self._claims:
            self._claims.pop(hostname, None)
        if self._believed:
            self._believed.pop(hostname, None)

    def undo(self, now: float) -> list[Undone[T]]:
        """Take back what was believed while a mass removal was not visible yet: each hostname once. To be called
        after `judge` has returned MASS. What is undone is from now on held back as the others are."""
        undone = [Undone(hostname, b.before) for hostname, b in self._believed.items() if now - b.at <= MASS_WINDOW]
        for hostname, believed in self._believed.items():
            self._claims[hostname] = _Claim(believed.at, now, mass=True)
        self._believed.clear()
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
        """Returns whether this is a mass removal; counts the environments in use when it has to."""
        if len(self._losers) < MASS_LEAST:
            return False
        if now - self._in_use_at > MASS_WINDOW:
            self._in_use, self._in_use_at = in_use(), now
        return len(self._losers) > MASS_PART * self._in_use

    def _make_room(self, now: float) -> bool:
        """Forget what is out of date if the guard is full; returns whether there is room for one more."""
        if len(self._claims) + len(self._believed) < self._capacity:
            return True
        self._claims = {h: c for h, c in self._claims.items() if now - c.last <= FORGOTTEN_AFTER}
        self._believed = {h: b for h, b in self._believed.items() if now - b.at <= MASS_WINDOW}
        return len(self._claims) + len(self._believed) < self._capacity
