"""An exchange that asserts its changes of phase, for debug runs (`python -X dev`) and tests of plain Python.

A compiled class cannot be extended, and sets its attributes without a call: a compiled styx runs unchecked.
"""

from edge import BUILD
from edge.net.exchange import Exchange
from edge.rules.outcomes import NEXT_PHASES, Phase


def checked_exchange() -> type[Exchange]:
    """The class of checked exchanges; if styx is compiled, that of usual ones."""
    return Exchange if BUILD == "compiled" else _checked()


def _checked() -> type[Exchange]:
    class CheckedExchange(Exchange):
        """Raises AssertionError for a change of phase that is not in NEXT_PHASES. Each assignment takes a call."""

        __slots__ = ()

        def __setattr__(self, name: str, value: object) -> None:
            if name == "phase" and hasattr(self, "phase"):
                assert isinstance(value, Phase)
                assert self._is_legal(value), f"{self}: from {self.phase.name} to {value.name}"
            super().__setattr__(name, value)

        def _is_legal(self, after: Phase) -> bool:
            before = self.phase
            if before is Phase.PICK and self._tries and after is self._tries[-1].phase:
                return True  # no backend is left: it ends in the phase of its last attempt
            return after is before or after in NEXT_PHASES[before]

    return CheckedExchange
