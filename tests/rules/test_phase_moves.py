"""The table of moves between the phases of an exchange."""

from edge.rules.outcomes import Phase
from edge.rules.phase_moves import MOVES, drawing, is_legal


def reachable(start: Phase) -> set[Phase]:
    found, left = {start}, [start]
    while left:
        new = MOVES[left.pop()] - found
        found |= new
        left += new
    return found


def test_every_phase_is_reached_and_ends():
    assert set(MOVES) == set(Phase)
    assert reachable(Phase.HEAD) == set(Phase)
    for phase in Phase:
        assert phase is Phase.FINISHED or Phase.FINISHED in MOVES[phase], "a client may leave at any time"
    assert not MOVES[Phase.FINISHED]


def test_there_is_no_other_attempt_behind_a_response():
    assert reachable(Phase.BODY) == {Phase.BODY, Phase.FINISHED}


def test_to_stay_is_legal_and_to_go_back_is_not():
    assert is_legal(Phase.PICK, Phase.PICK)
    assert is_legal(Phase.SEND, Phase.PICK)
    assert not is_legal(Phase.ROUTE, Phase.HEAD)
    assert not is_legal(Phase.FINISHED, Phase.ROUTE)


def test_the_drawing_has_every_move():
    lines = drawing().splitlines()
    assert len(lines) == len(set(lines)) == 3 + sum(map(len, MOVES.values()))
    assert "    [*] --> HEAD" in lines
    assert "    ANSWER --> PICK" in lines
    assert "    FINISHED --> [*]" in lines
