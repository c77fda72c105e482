"""An event loop whose clock jumps to the next timer instead of waiting for it.

For what is decided by time alone: ten seconds take as long as their work does. Sockets do not work in it, since
nobody else's time jumps.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Jumping(selectors.SelectSelector):
    """Waits for nobody; tells the loop for how long it would have."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "nothing is due any more: the test would wait for ever"
        self.passed += max(0.0, timeout)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at the thousandth second."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return 1000.0 + self._jumping.passed

    def stand_still(self, seconds: float) -> None:
        """So much time passes while nothing happens: somebody else has the machine."""
        self._jumping.passed += seconds


def virtually(test: Coroutine[Any, Any, None]) -> None:
    """Run this to its end."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(test)
