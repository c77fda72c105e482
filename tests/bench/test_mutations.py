"""Messages of the fuzzer are the same for the same seed, and every kind of mutation occurs."""

from random import Random

import pytest

from bench.fuzz.fuzz_seeds import GARBLED, Kind, Seeds, make_message
from bench.fuzz.mutations import LARGEST, MUTATIONS, Act, Step, cut, depart, mutate, sent
from bench.fuzz.strict_reader import Faulty, State, Unfinished, read_response

REQUEST = b"POST /a HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"
SEEDS = Seeds.with_corpus()


@pytest.mark.parametrize("mutation", [mutation for mutation, _ in MUTATIONS], ids=lambda m: m.__name__)
def test_each_mutation_changes_and_takes_anything(mutation):
    rand = Random(1)
    assert any(mutation(rand, REQUEST) != REQUEST for _ in range(20))
    for data in (b"", b"\r\n", b"x"):
        assert isinstance(mutation(rand, data), bytes)


def test_a_message_does_not_grow_for_ever():
    rand, data = Random(2), REQUEST
    for _ in range(2000):
        data = mutate(rand, data, [REQUEST])
    assert len(data) < 2 * LARGEST


def test_cutting_loses_nothing():
    rand = Random(3)
    ways = [cut(rand, REQUEST) for _ in range(300)]
    assert all(sent(steps) == REQUEST for steps in ways)
    assert {len([step for step in steps if step.act is Act.SEND]) for steps in ways} >= {1, 2, 3, len(REQUEST)}
    assert any(step.act is Act.PAUSE for steps in ways for step in steps)
    assert cut(rand, b"") == []


def test_departing_ends_the_script_perhaps_in_the_middle():
    rand = Random(4)
    steps = [Step(Act.SEND, b"a"), Step(Act.SEND, b"b")]
    ways = [depart(rand, steps) for _ in range(200)]
    assert {way[-1].act for way in ways} == {Act.HALF_CLOSE, Act.CLOSE, Act.RESET}
    assert {sent(way) for way in ways} == {b"", b"a", b"ab"}


def test_the_same_seed_and_number_make_the_same_message():
    messages = [make_message(5, number, SEEDS) for number in range(1, 200)]
    assert messages == [make_message(5, number, SEEDS) for number in range(1, 200)]
    assert messages != [make_message(6, number, SEEDS) for number in range(1, 200)]
    assert {message.kind for message in messages} == set(Kind)
    assert {message.plain for message in messages} == {True, False}


def test_what_follows_a_response_comes_together_with_its_end():
    # Later it would be the response to whatever request is next, for every proxy that there is.
    longer = 0
    for number in range(1, 3000):
        message = make_message(7, number, SEEDS)
        if message.kind is not Kind.RESPONSE or GARBLED not in sent(message.client):
            continue
        method = sent(message.client).partition(b" ")[0]
        ended = message.backend != [] and message.backend[-1].act is Act.CLOSE
        pieces = [step.data for step in message.backend if step.data]
        try:
            response = read_response(b"".join(pieces), method=method, ended=ended)
        except (Faulty, Unfinished):
            continue
        if response.payload.state is State.WHOLE and response.payload.end < len(b"".join(pieces)):
            longer += 1
            assert len(b"".join(pieces[:-1])) < response.payload.end
    assert longer > 20
