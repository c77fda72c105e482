"""When the core API says of what is known that it is gone: whether it is believed."""

CONFIRMED_AFTER = 30.0
"Seconds for which the core API must say it."
MANY_CONTRADICTED, PART_CONTRADICTED = 20, 0.01
"Environments, or this part of the known hostnames if that is more: when so many lose everything, nobody does."
MOST_CONTRADICTIONS = 10_000
CONTRADICTION_FORGOTTEN = 600.0


class Contradictions:
    """Known hostnames of which the core API says now that they have no backends, or do not exist.

    One site may well be gone, and then the core API goes on saying so. But an API that has lost its data, or
    answers from an empty replica, says it of many at once, and must not take a platform down (static stability).
    So it is believed when it was said again half a minute later, and not of many environments at the same time.
    A higher generation needs no confirmation: it says that something has changed on purpose.
    """

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open: dict[str, tuple[float, float, str]] = {}
        "By hostname: since when it is said, when it was said last, and of which environment."

    def believed(self, hostname: str, environment: str, now: float, known: int) -> bool:
        """It was said of this hostname of an `environment` (site/name), among so many known ones."""
        said = self._open.get(hostname)
        if said is None or now - said[1] > CONTRADICTION_FORGOTTEN:
            if said is not None or self._has_room(now):
                self._open[hostname] = (now, now, environment)
            return False
        self._open[hostname] = (said[0], now, environment)
        if now - said[0] < CONFIRMED_AFTER:
            return False
        if self._are_more_than(max(MANY_CONTRADICTED, PART_CONTRADICTED * known), now):
            return False
        del self._open[hostname]
        return True

    def _has_room(self, now: float) -> bool:
        if len(self._open) >= MOST_CONTRADICTIONS:
            kept = {h: told for h, told in self._open.items() if now - told[1] <= CONTRADICTION_FORGOTTEN}
            self._open = kept
        return len(self._open) < MOST_CONTRADICTIONS

    def _are_more_than(self, most: float, now: float) -> bool:
        environments: set[str] = set()
        for _, last, whole in self._open.values():
            if now - last <= CONTRADICTION_FORGOTTEN:
                environments.add(whole)
                if len(environments) > most:
                    return True
        return False

    def settled(self, hostname: str) -> None:
        """The core API says something else of it again."""
        if self._open:
            self._open.pop(hostname, None)
