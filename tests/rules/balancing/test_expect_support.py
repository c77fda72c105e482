"""Which uploads ask first, and for how long they wait for the answer."""

import pytest

from edge.rules.balancing.expect_support import FIRST_PATIENCE, PATIENCE, SILENT_FOR, ExpectMemory

NOW = 1000.0


def patience(memory, now=NOW, connect=0.0, asking="auto"):
    return memory.timeout(asking, now, connect)


@pytest.mark.parametrize(
    ("connect", "seconds"), [(0.0, FIRST_PATIENCE), (0.05, FIRST_PATIENCE + 0.2), (3.0, PATIENCE)]
)
def test_the_first_is_waited_for_briefly_and_longer_where_backends_are_far(connect, seconds):
    assert patience(ExpectMemory(), connect=connect) == pytest.approx(seconds)


def test_while_the_first_waits_nobody_else_asks():
    memory = ExpectMemory()
    memory.record_question(NOW, FIRST_PATIENCE)
    assert not patience(memory, NOW + FIRST_PATIENCE / 2)
    assert patience(memory, NOW + FIRST_PATIENCE) == FIRST_PATIENCE, "its client left, or its body was complete"


def test_those_that_answer_are_always_asked():
    memory = ExpectMemory()
    memory.record_question(NOW, FIRST_PATIENCE)
    memory.record_answer()
    assert patience(memory) == PATIENCE
    memory.record_question(NOW, PATIENCE)
    assert patience(memory) == PATIENCE, "many at once"


def test_those_that_ignore_it_are_asked_again_in_ten_minutes():
    memory = ExpectMemory()
    memory.record_answer()
    memory.record_silence(NOW)
    assert not patience(memory, NOW + SILENT_FOR - 1)
    assert patience(memory, NOW + SILENT_FOR) == FIRST_PATIENCE
    memory.record_question(NOW + SILENT_FOR, FIRST_PATIENCE)
    memory.record_silence(NOW + SILENT_FOR)
    assert not patience(memory, NOW + 2 * SILENT_FOR - 1)


def test_a_question_does_not_shorten_a_silence():
    memory = ExpectMemory()
    memory.record_silence(NOW)
    memory.record_question(NOW, PATIENCE)  # asked all the same: "always"
    assert not patience(memory, NOW + 2 * PATIENCE)


def test_a_late_answer_corrects_a_silence():
    memory = ExpectMemory()
    memory.record_silence(NOW)
    memory.record_answer()
    assert patience(memory) == PATIENCE


@pytest.mark.parametrize("known", ["record_answer", "forget"])
def test_always_and_never(known):
    memory = ExpectMemory()
    memory.record_silence(NOW)
    assert patience(memory, asking="always") == PATIENCE
    getattr(memory, known)()
    assert not patience(memory, asking="never")


def test_what_is_forgotten_is_asked_again():
    memory = ExpectMemory()
    memory.record_silence(NOW)
    memory.forget()
    assert patience(memory) == FIRST_PATIENCE
