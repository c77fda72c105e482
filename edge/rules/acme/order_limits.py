"""Rate limits of orders: within an hour in all, and within seven days below one registered domain.

Authorities have such limits for each account (Let's Encrypt: 300 orders in three hours, 50 certificates for a
registered domain in seven days); whoever reaches them waits for hours or days. Renewals count in the first one
only.
"""

from collections import deque
from typing import Final, NamedTuple

HOUR: Final = 3600.0
WEEK: Final = 7 * 86_400.0


class WaitForLimit(NamedTuple):
    """An order must wait."""

    until: float
    reason: str
    "The setting: `orders_per_hour` or `orders_per_domain`."


class _Window:
    """The times of the last `most` orders."""

    __slots__ = ("_times", "most", "seconds")

    def __init__(self, most: int, seconds: float) -> None:
        self.most, self.seconds = most, seconds
        self._times: deque[float] = deque(maxlen=most)

    def free_at(self) -> float:
        """When one more may begin."""
        return self._times[0] + self.seconds if len(self._times) == self.most else 0.0

    def add(self, at: float) -> None:
        self._times.append(at)

    def is_over(self, now: float) -> bool:
        return not self._times or self._times[-1] + self.seconds <= now


class OrderLimits:
    """The orders of one edge, as far as they count. Times are added in their order."""

    __slots__ = ("_all", "_by_domain", "_per_domain")

    def __init__(self, per_hour: int, per_domain: int) -> None:
        """`per_hour`: all orders. `per_domain`: first ones, in seven days."""
        self._all = _Window(per_hour, HOUR)
        self._per_domain = per_domain
        self._by_domain: dict[str, _Window] = {}

    def __len__(self) -> int:
        """Domains that are remembered: those with orders within seven days."""
        return len(self._by_domain)

    def wait_of_all(self, now: float) -> WaitForLimit | None:
        """The limit that makes every order wait; None = nothing."""
        until = self._all.free_at()
        return WaitForLimit(until, "orders_per_hour") if until > now else None

    def wait_of_domain(self, domain: str, now: float) -> WaitForLimit | None:
        """The limit that makes first orders below this registered domain wait; None = nothing."""
        window = self._by_domain.get(domain)
        until = window.free_at() if window is not None else 0.0
        return WaitForLimit(until, "orders_per_domain") if until > now else None

    def record(self, domain: str, at: float, now: float, *, is_first: bool) -> None:
        """Count an order that began at `at`. `is_first`: it is no renewal."""
        if at + HOUR > now:
            self._all.add(at)
        if is_first and at + WEEK > now:
            self._by_domain.setdefault(domain, _Window(self._per_domain, WEEK)).add(at)

    def forget(self, now: float) -> None:
        """Drop domains without orders within seven days."""
        self._by_domain = {name: window for name, window in self._by_domain.items() if not window.is_over(now)}
