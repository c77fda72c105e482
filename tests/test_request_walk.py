"""The walk of a cached request stays short; docs/architecture.md has it whole."""

import pytest

from tests.support.request_walk import Call, Walk, request_walk

MOST_FILES, MOST_CALLS, MOST_RETURNS = 12, 38, 19
"Raise them only with a reason: a reader opens each of these files, and each request pays for each call."


@pytest.mark.plain  # the profiler sees no function of a compiled module
def test_the_walk_of_a_cached_request_is_short() -> None:
    walk = request_walk()
    assert walk.files[0] == "net/h1/h1_connection.py"
    assert "Exchange._finished" in {call.function for call in walk.calls}
    assert len(walk.files) <= MOST_FILES, walk.files
    assert len(walk.calls) <= MOST_CALLS, [call.function for call in walk.calls]
    assert walk.returns <= MOST_RETURNS, list(walk.lines())


def test_a_return_is_a_call_in_a_file_that_was_left() -> None:
    walk = Walk([Call(file, "f", 0) for file in ("a", "b", "b", "a", "c", "b")])
    assert (walk.files, walk.returns) == (["a", "b", "c"], 2)
    assert [line.split()[0] for line in walk.lines()] == ["1", "2", "f", "1", "3", "2"]
