"""Names for which a handshake found no certificate."""

from types import SimpleNamespace
from typing import Any

import pytest

from edge.net.certificates.certificate_wishes import AGAIN, MOST, CertificateWishes, known_to_source

KNOWN, UNKNOWN = SimpleNamespace(response=object()), SimpleNamespace(response=None)


class Source:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.waiting: dict[str, Any] = {}
        self.now = 0.0
        self.wishes = CertificateWishes(self.resolve, lambda: self.now)

    def resolve(self, hostname: str, done: Any, client: str = "") -> None:
        self.asked.append((hostname, client))
        self.waiting[hostname] = done

    def answer(self, hostname: str, route: object) -> None:
        self.waiting.pop(hostname)(route)


def test_a_known_name_is_told_once_and_again_after_a_while():
    source = Source()
    for _ in range(3):
        source.wishes.add("a.test", "192.0.2.1")
    source.answer("a.test", KNOWN)
    assert source.asked == [("a.test", "192.0.2.1")]
    assert source.wishes.take() == ["a.test"]
    assert source.wishes.take() == []
    source.wishes.add("a.test", "192.0.2.1")
    assert not source.waiting
    source.now = AGAIN
    source.wishes.add("a.test", "192.0.2.1")
    assert source.waiting


@pytest.mark.parametrize("route", [UNKNOWN, None])
def test_a_name_that_the_source_does_not_know_is_never_told(route):
    source = Source()
    source.wishes.add("a.test", "192.0.2.1")
    source.answer("a.test", route)
    assert source.wishes.take() == []
    assert len(source.wishes) == 0, "it takes no room from others"


@pytest.mark.parametrize("hostname", ["localhost", "_dmarc.a.test"])
def test_a_name_that_no_authority_takes_is_not_looked_up(hostname):
    source = Source()
    source.wishes.add(hostname, "192.0.2.1")
    assert not source.asked


def test_their_number_is_bounded():
    source = Source()
    for number in range(MOST + 5):
        source.wishes.add(f"{number}.test", "192.0.2.1")
    assert len(source.asked) == len(source.wishes) == MOST
    for hostname in list(source.waiting):
        source.answer(hostname, KNOWN)
    source.now = AGAIN
    source.wishes.add("one.more.test", "192.0.2.1")
    assert len(source.asked) == MOST, "those that were not taken yet count"


@pytest.mark.parametrize(("route", "state"), [(KNOWN, "known"), (UNKNOWN, "unknown"), (None, "unsure")])
async def test_whether_the_source_knows_a_name(route, state):
    def resolve(hostname: str, done: Any, client: str = "") -> None:
        done(route)
        done(route)

    assert await known_to_source(resolve, "a.test") == state
