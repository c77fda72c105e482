"""What the availability loads send, and how they judge the response."""

from random import Random

import pytest

from bench.lab.availability_load import WRONG_BODY, WRONG_SITE, EchoRequest, Lost, echo

HOSTS = ["a.test", "b.test"]


def test_hosts_take_turns_and_posts_have_bodies():
    rand = Random(1)
    requests = [EchoRequest.drawn(rand, HOSTS, number) for number in range(100)]
    assert [request.site for request in requests] == HOSTS * 50
    assert {request.method for request in requests} == {"GET", "POST"}
    assert all((request.method == "POST") == bool(request.body) for request in requests)


def test_the_response_says_what_arrived():
    request = EchoRequest("POST", "a.test", "/1/0", b"body")
    request.check(echo("POST", "a.test", "/1/0", b"body"))
    with pytest.raises(Lost, match=WRONG_BODY):
        request.check(echo("POST", "a.test", "/1/0", b"another"))
    with pytest.raises(Lost, match=WRONG_SITE):
        request.check(echo("POST", "b.test", "/1/0", b"body"))
