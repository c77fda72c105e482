"""What the admin process does for the issuer."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from edge.admin.admin_messages import WorkerReplies, WorkerReply
from edge.rules.routing.change_records import Change
from edge.rules.tls.challenge_responses import MOST
from edge.run.control.control_messages import (
    AskHostname,
    CertificatesWanted,
    Changed,
    ControlReply,
    ServeChallenges,
)
from edge.run.control.issuer_relay import MOST_WAITING, IssuerRelay


class Recorder:
    """A connection; keeps what is sent to it."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.came = asyncio.Event()

    def send(self, message: Any) -> bool:
        self.sent.append(message)
        self.came.set()
        return True

    def close(self) -> None:
        self.sent.append("closed")


class Workers:
    """Reply what they are told to."""

    def __init__(self, *contents: bytes) -> None:
        self.asked: list[Any] = []
        self.changes: list[Change] = []
        self._contents = contents
        self.relay = IssuerRelay(self._ask, self.changes.extend)

    async def _ask(self, request: Callable[[int], Any]) -> WorkerReplies:
        self.asked.append(request(7))
        replies = [WorkerReply(n, n, msgspec.Raw(content), "", False) for n, content in enumerate(self._contents)]
        return WorkerReplies(replies, [])


async def reply(workers: Workers, message: Any) -> Any:
    issuer = Recorder()
    workers.relay.received(issuer, message)  # type: ignore[arg-type]
    await issuer.came.wait()
    [sent] = issuer.sent
    assert isinstance(sent, ControlReply)
    return sent.number, msgspec.json.decode(sent.body)


@pytest.mark.parametrize(
    ("contents", "state"),
    [
        ((b'"known"', b'"unsure"'), "known"),
        ((b'"unknown"', b'"known"'), "known"),
        ((b'"unknown"', b'"unsure"'), "unknown"),
        ((b'"unsure"',), "unsure"),
        ((b"null",), "unsure"),
        ((), "unsure"),
    ],
)
async def test_a_hostname_is_known_if_one_worker_knows_it(contents, state):
    assert await reply(Workers(*contents), AskHostname(5, "a.test")) == (5, state)


async def test_proofs_are_added_and_ended_and_stay_when_the_issuer_ends():
    workers = Workers(b"null", b"null")
    first, second = ("a.test", "t", "t.x"), ("b.test", "u", "u.x")
    assert await reply(workers, ServeChallenges(5, [first])) == (5, 2)
    await reply(workers, ServeChallenges(6, [second]))
    assert workers.asked[-1] == ServeChallenges(7, [first, second])
    new = Recorder()
    workers.relay.left(new)  # type: ignore[arg-type]
    workers.relay.worker_joined(new, 9)  # type: ignore[arg-type]
    assert new.sent == [ServeChallenges(9, [first, second])]
    await reply(workers, ServeChallenges(8, [], ["a.test"]))
    assert workers.asked[-1] == ServeChallenges(7, [second])
    many = [(f"{n}.test", "t", "t.x") for n in range(MOST)]
    await reply(workers, ServeChallenges(8, many))
    assert workers.asked[-1] == ServeChallenges(7, many), "the oldest makes room"


async def test_names_wait_for_the_issuer_and_their_number_is_bounded():
    workers, issuer = Workers(), Recorder()
    workers.relay.wanted(CertificatesWanted([f"{n}.test" for n in range(MOST_WAITING + 1)]))
    workers.relay.joined(issuer)  # type: ignore[arg-type]
    workers.relay.wanted(CertificatesWanted(["a.test"]))
    [waited, now] = issuer.sent
    assert len(waited.hostnames) == MOST_WAITING
    assert now == CertificatesWanted(["a.test"])


async def test_workers_are_told_of_a_new_certificate():
    workers = Workers()
    workers.relay.received(Recorder(), Changed([Change("certificate", "a.test")]))  # type: ignore[arg-type]
    assert workers.changes == [Change("certificate", "a.test")]
