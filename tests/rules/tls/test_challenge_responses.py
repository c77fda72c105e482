"""The proofs for an ACME authority."""

import pytest

from edge.rules.outcomes import Cause
from edge.rules.tls.challenge_responses import MOST, ChallengeResponses
from edge.rules.tls.request_gate import AcmeProofs, HttpsRedirect, TurnedAway

PATH = b"/.well-known/acme-challenge/"


def responses() -> ChallengeResponses:
    found = ChallengeResponses()
    found.replace([("a.test", "tok-1", "tok-1.thumb")])
    return found


@pytest.mark.parametrize(
    ("host", "target", "body"),
    [
        ("a.test", PATH + b"tok-1", b"tok-1.thumb"),
        ("b.test", PATH + b"tok-1", None),
        ("a.test", PATH + b"tok-2", None),
        ("a.test", PATH, None),
        ("a.test", PATH + b"tok-1?x", None),
        ("a.test", PATH + b"tok-1/", None),
        ("a.test", b"/tok-1", None),
    ],
)
def test_a_proof_is_for_its_hostname_and_token_alone(host, target, body):
    assert responses().find(host, target) == body


@pytest.mark.parametrize(
    ("token", "response"),
    [
        ("", "a.b"),
        ("a/b", "a.b"),
        ("a\r\n", "a.b"),
        ("a", "ab"),
        ("a", "a.b\r\nX: y"),
        ("a" * 257, "a.b"),
        ("é", "a.b"),
    ],
)
def test_what_is_no_token_or_no_response_is_left_out(token, response):
    found = ChallengeResponses()
    found.replace([("a.test", token, response)])
    assert len(found) == 0


def test_their_number_is_bounded_and_others_take_their_place():
    found = ChallengeResponses()
    found.replace([(f"{n}.test", "t", "t.x") for n in range(MOST + 1)])
    assert len(found) == MOST
    found.replace([])
    assert len(found) == 0


@pytest.mark.parametrize(
    ("behind", "target", "turned_away"),
    [
        (None, PATH + b"tok-1", TurnedAway(Cause.LOCAL_REPLY, body=b"tok-1.thumb")),
        (HttpsRedirect(443), PATH + b"tok-1", TurnedAway(Cause.LOCAL_REPLY, body=b"tok-1.thumb")),
        (HttpsRedirect(443), PATH + b"tok-2", None),
        (None, b"/", None),
        (HttpsRedirect(443), b"/", TurnedAway(Cause.REDIRECTED, b"https://a.test/")),
    ],
)
def test_the_gate(behind, target, turned_away):
    assert AcmeProofs(responses(), behind).check("a.test", target) == turned_away


def test_what_was_served_is_counted():
    found = responses()
    gate = AcmeProofs(found, None)
    gate.check("a.test", PATH + b"tok-1")
    gate.check("a.test", PATH + b"tok-2")
    assert found.served == 1
