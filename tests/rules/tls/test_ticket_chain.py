import pytest

from edge.rules.tls.ticket_chain import BadTicketChain, TicketChain, decode_ticket_chain

SECRET = bytes(range(32))


def test_processes_that_begin_together_have_the_same_keys_ever_after() -> None:
    step = whole = TicketChain(SECRET, 100)
    for epoch in range(101, 120):
        step = step.advanced(epoch)
    assert step == whole.advanced(119)
    assert step.keys(60.0) == whole.advanced(119).keys(60.0)


def test_the_key_before_is_that_of_the_epoch_before() -> None:
    chain = TicketChain(SECRET, 100)
    first = chain.keys(60.0)
    assert first.previous is None
    second = chain.advanced(101).keys(60.0)
    assert second.previous == first.current
    assert second.current.made_at == 101 * 60.0
    assert len(second.current.secret) == 80
    third = chain.advanced(102).keys(60.0)
    assert third.previous == second.current
    assert len({keys.current.name for keys in (first, second, third)}) == 3


def test_a_secret_is_forgotten_with_its_epoch() -> None:
    chain = TicketChain(SECRET, 100)
    later = chain.advanced(102)
    assert SECRET not in later.encode()
    assert chain.keys(60.0).current.secret not in later.encode()


def test_a_clock_that_goes_back_changes_nothing() -> None:
    chain = TicketChain(SECRET, 100).advanced(101)
    assert chain.advanced(99) == chain.advanced(101) == chain


def test_it_is_handed_on_as_bytes() -> None:
    for chain in (TicketChain(SECRET, 100), TicketChain(SECRET, 100).advanced(7_000)):
        assert decode_ticket_chain(chain.encode()) == chain
    for data in (b"", SECRET, TicketChain(SECRET, 1).encode() + b"x"):
        with pytest.raises(BadTicketChain):
            decode_ticket_chain(data)


def test_a_secret_is_not_shown() -> None:
    assert repr(TicketChain(SECRET, 100)) == "<TicketChain in epoch 100>"
