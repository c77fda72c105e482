"""Ticket keys from secrets that several edges share."""

from itertools import pairwise

import pytest

from edge.rules.tls.ticket_secrets import (
    LONGEST_FILE,
    SHORTEST,
    BadTicketSecrets,
    TicketSecrets,
    ticket_secrets,
)

ONE, TWO, THREE = ("".join(f"{(seed * 37 + at * 11) % 256:02x}" for at in range(32)) for seed in (1, 2, 3))
PERIOD = 3600.0


def names(secrets: TicketSecrets, epoch: int) -> set[bytes]:
    return {key.name for key in secrets.keys(epoch, PERIOD).accepted}


def test_edges_with_the_same_file_have_the_same_keys() -> None:
    text = f"# of both edges\n{ONE}\n\n  {TWO}  \r\n"
    one, other = ticket_secrets(text.encode()), ticket_secrets(f"{ONE}\n{TWO}".encode())
    assert one == other
    assert one.keys(7, PERIOD) == other.keys(7, PERIOD)
    assert one.keys(7, PERIOD).current.made_at == 7 * PERIOD
    assert len(names(one, 7)) == 4
    assert {len(key.secret) for key in one.keys(7, PERIOD).accepted} == {80}


def test_a_key_is_accepted_for_two_periods() -> None:
    secrets = ticket_secrets(ONE.encode())
    current = secrets.keys(7, PERIOD).current.name
    assert current in names(secrets, 8)
    assert current not in names(secrets, 9)
    assert secrets.keys(8, PERIOD).previous == secrets.keys(7, PERIOD).current


def test_a_secret_is_replaced_while_edges_accept_each_others_tickets() -> None:
    """The file of one edge is always a step ahead of that of the other."""
    steps = [ticket_secrets("\n".join(lines).encode()) for lines in ([ONE], [ONE, TWO], [TWO, ONE], [TWO])]
    for before, after in pairwise(steps):
        assert before.keys(7, PERIOD).current.name in names(after, 7) or after == steps[-1]
        assert after.keys(7, PERIOD).current.name in names(before, 7)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "0 secrets, not 1 to 4"),
        ("# nothing", "0 secrets"),
        ("\n".join(f"{ONE}{number}" for number in range(5)), "5 secrets"),
        (f"{ONE}\n{'x' * (SHORTEST - 1)}", "line 2: no random secret of at least 43 characters"),
        ("a" * 64, "line 1: no random secret"),
        (f"{ONE}\n# again\n{ONE}", "line 3: the secret of an earlier line"),
        (f"{ONE}\n" + "#" * LONGEST_FILE, "longer than"),
    ],
)
def test_files_that_are_no_good(content: str, words: str) -> None:
    with pytest.raises(BadTicketSecrets, match=words) as raised:
        ticket_secrets(content.encode())
    assert ONE not in str(raised.value)


def test_a_secret_is_not_shown() -> None:
    assert ONE not in repr(ticket_secrets(ONE.encode()))
    assert THREE not in repr(ticket_secrets(THREE.encode()).keys(1, PERIOD))
