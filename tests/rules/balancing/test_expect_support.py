"""Which uploads are sent with `Expect: 100-continue`, and how long they wait."""

import pytest

from edge.rules.balancing.expect_support import FIRST_TIMEOUT, SILENT_FOR, TIMEOUT, ExpectMemory

NOW = 1000.0


def timeout_of(memory, now=NOW, connect=0.0, asking="auto"):
    return memory.timeout(asking, now, connect)


@pytest.mark.parametrize(
    ("connect", "seconds"), [(0.0, FIRST_TIMEOUT), (0.05, FIRST_TIMEOUT + 0.2), (3.0, TIMEOUT)]
)
def test_the_first_timeout_is_short_and_grows_with_the_connect_time(connect, seconds):
    assert timeout_of(ExpectMemory(), connect=connect) == pytest.approx(seconds)


def test_while_the_first_waits_no_other_upload_asks():
    memory = ExpectMemory()
    memory.record_expect(NOW, FIRST_TIMEOUT)
    assert not timeout_of(memory, NOW + FIRST_TIMEOUT / 2)
    assert timeout_of(memory, NOW + FIRST_TIMEOUT) == FIRST_TIMEOUT, "its client left, or its body was complete"


def test_backends_that_support_it_are_always_asked():
    memory = ExpectMemory()
    memory.record_expect(NOW, FIRST_TIMEOUT)
    memory.record_response()
    assert timeout_of(memory) == TIMEOUT
    memory.record_expect(NOW, TIMEOUT)
    assert timeout_of(memory) == TIMEOUT, "many at once"


def test_backends_that_ignore_it_are_asked_again_in_ten_minutes():
    memory = ExpectMemory()
    memory.record_response()
    memory.record_silence(NOW)
    assert not timeout_of(memory, NOW + SILENT_FOR - 1)
    assert timeout_of(memory, NOW + SILENT_FOR) == FIRST_TIMEOUT
    memory.record_expect(NOW + SILENT_FOR, FIRST_TIMEOUT)
    memory.record_silence(NOW + SILENT_FOR)
    assert not timeout_of(memory, NOW + 2 * SILENT_FOR - 1)


def test_another_upload_does_not_shorten_a_silence():
    memory = ExpectMemory()
    memory.record_silence(NOW)
    memory.record_expect(NOW, TIMEOUT)  # sent with Expect all the same: "always"
    assert not timeout_of(memory, NOW + 2 * TIMEOUT)


def test_a_late_100_corrects_a_silence():
    memory = ExpectMemory()
    memory.record_silence(NOW)
    memory.record_response()
    assert timeout_of(memory) == TIMEOUT


@pytest.mark.parametrize("known", ["record_response", "forget"])
def test_always_and_never(known):
    memory = ExpectMemory()
    memory.record_silence(NOW)
    assert timeout_of(memory, asking="always") == TIMEOUT
    getattr(memory, known)()
    assert not timeout_of(memory, asking="never")


def test_after_forget_it_is_unknown_again():
    memory = ExpectMemory()
    memory.record_silence(NOW)
    memory.forget()
    assert timeout_of(memory) == FIRST_TIMEOUT
