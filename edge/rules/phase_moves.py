"""From which phase of an exchange to which others it may go, as a table.

`net/checked_exchange.py` holds every exchange against it in debug runs; the drawing in the docs is made from it.
"""

from collections.abc import Mapping

from edge.rules.outcomes import Phase

_ANOTHER_ATTEMPT = frozenset({Phase.ROUTE, Phase.PICK, Phase.CONNECT})
"An attempt failed: the next one, perhaps after a pause, or after the core API was asked again."

MOVES: Mapping[Phase, frozenset[Phase]] = {
    Phase.HEAD: frozenset({Phase.ROUTE, Phase.FINISHED}),
    Phase.ROUTE: frozenset({Phase.PICK, Phase.FINISHED}),
    # Nobody is left: the phase is that in which the last attempt failed, for that is what is logged.
    Phase.PICK: frozenset({Phase.CONNECT, Phase.SEND, Phase.ANSWER, Phase.FINISHED}),
    Phase.CONNECT: frozenset({Phase.SEND, Phase.ROUTE, Phase.PICK, Phase.FINISHED}),
    # A backend may respond before it has the whole request.
    Phase.SEND: frozenset({Phase.ANSWER, Phase.BODY, Phase.FINISHED}) | _ANOTHER_ATTEMPT,
    Phase.ANSWER: frozenset({Phase.BODY, Phase.FINISHED}) | _ANOTHER_ATTEMPT,
    Phase.BODY: frozenset({Phase.FINISHED}),
    Phase.FINISHED: frozenset(),
}
"To stay in a phase is no move."


def is_legal(before: Phase, after: Phase) -> bool:
    """Whether an exchange may go from one phase to another, or stay."""
    return before is after or after in MOVES[before]


def drawing() -> str:
    """The table as a state diagram of Mermaid."""
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(MOVES)).name}"]
    for before, afters in MOVES.items():
        lines += [f"    {before.name} --> {after.name}" for after in Phase if after in afters]
        lines += [] if afters else [f"    {before.name} --> [*]"]
    return "\n".join(lines)
