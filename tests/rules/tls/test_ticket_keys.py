import pytest

from edge.rules.tls.ticket_keys import BadTicketKeys, TicketKey, TicketKeys, decode_ticket_keys


def secret(number: int) -> bytes:
    return bytes((number + at) % 256 for at in range(80))


FIRST, SECOND, THIRD = (secret(number) for number in (1, 2, 3))


def test_a_rotation_keeps_the_key_before() -> None:
    keys = TicketKeys(TicketKey(FIRST, 100.0))
    assert keys.due(50.0) == 150.0
    keys = keys.rotated(SECOND, 150.0)
    assert (keys.current.secret, keys.previous) == (SECOND, TicketKey(FIRST, 100.0))
    keys = keys.rotated(THIRD, 200.0)
    assert keys == TicketKeys(TicketKey(THIRD, 200.0), TicketKey(SECOND, 150.0))
    assert keys.due(50.0) == 250.0


def test_a_ticket_names_its_key() -> None:
    keys = TicketKeys(TicketKey(FIRST, 0.0)).rotated(SECOND, 1.0)
    assert keys.find(FIRST[:16] + b"the rest of a ticket") == keys.previous
    assert keys.find(SECOND[:16]) == keys.current
    assert keys.find(THIRD[:16]) is None
    assert keys.find(FIRST[:15]) is None
    assert TicketKeys(TicketKey(FIRST, 0.0)).find(SECOND[:16]) is None


def test_keys_are_handed_on_as_bytes() -> None:
    keys = TicketKeys(TicketKey(FIRST, 7.0), TicketKey(SECOND, 7.0))
    assert decode_ticket_keys(keys.encode(), 7.0) == keys
    assert decode_ticket_keys(FIRST, 7.0) == TicketKeys(TicketKey(FIRST, 7.0))
    assert decode_ticket_keys(FIRST + SECOND + THIRD, 7.0) == keys, "more than two are not used"


@pytest.mark.parametrize(
    "data", [b"", FIRST[:79], FIRST + b"\n", FIRST + SECOND[:48], FIRST + FIRST, FIRST + bytes(80), b"A" * 80]
)
def test_what_is_no_keys_is_refused(data: bytes) -> None:
    with pytest.raises(BadTicketKeys):
        decode_ticket_keys(data, 0.0)


def test_a_key_is_not_shown() -> None:
    keys = TicketKeys(TicketKey(FIRST, 0.0))
    assert FIRST[16:].hex() not in repr(keys)
    assert repr(FIRST[16:32])[2:-1] not in repr(keys)
