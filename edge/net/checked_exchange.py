"""An exchange that asserts its moves between phases, for debug runs (`python -X dev`) and tests."""

from edge.net.exchange import Exchange
from edge.rules.outcomes import Phase
from edge.rules.phase_moves import is_legal


class CheckedExchange(Exchange):
    """Raises AssertionError at a move that is not in the table. Every attribute costs a call to set."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        if name == "phase" and hasattr(self, "phase"):
            assert isinstance(value, Phase)
            assert is_legal(self.phase, value), f"{self}: from {self.phase.name} to {value.name}"
        super().__setattr__(name, value)
