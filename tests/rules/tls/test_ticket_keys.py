from edge.rules.tls.ticket_keys import TicketKey, TicketKeys


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


def test_a_key_is_not_shown() -> None:
    keys = TicketKeys(TicketKey(FIRST, 0.0))
    assert FIRST[16:].hex() not in repr(keys)
    assert repr(FIRST[16:32])[2:-1] not in repr(keys)


def test_keys_of_groups_are_derived_and_differ() -> None:
    keys = TicketKeys(TicketKey(bytes(range(80)), 7.0), TicketKey(bytes(80), 3.0))
    one, two = keys.of_group(b"one"), keys.of_group(b"two")
    assert one == keys.of_group(b"one"), "all processes have the same"
    found = [key.secret for each in (keys, one, two) for key in each.accepted]
    assert len({secret[:16] for secret in found}) == len(found) == 6
    assert {len(secret) for secret in found} == {80}
    assert [key.made_at for key in one.accepted] == [7.0, 3.0]
    assert TicketKeys(keys.current).of_group(b"one").previous is None
