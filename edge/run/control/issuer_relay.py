"""What the admin process does for the issuer, which talks to workers through it.

worker ── CertificatesWanted ──► issuer
issuer ── ServeChallenges ──► all workers, and those that connect later
       ── AskHostname ──► all workers, of which one that knows the hostname is enough
       ── Changed ──► all workers: a certificate has been written
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from edge.admin.admin_messages import WorkerReplies
from edge.rules.routing.change_records import Change
from edge.rules.tls.challenge_responses import MOST, Challenge
from edge.run.control.control_messages import (
    AskHostname,
    CertificatesWanted,
    Changed,
    ControlReply,
    FromIssuer,
    Message,
    ServeChallenges,
)
from edge.run.control.worker_connection import WorkerConnection

MOST_WAITING = 1000
"Hostnames that wait for an issuer that is not connected yet."
MOST_REQUESTS = 256
"Requests of the issuer that are carried out at once; it has a few for each order under way."

Ask = Callable[[Callable[[int], Message]], Awaitable[WorkerReplies]]


class IssuerRelay:
    """Between the issuer and the workers. `ask` asks all workers; `changed` tells them of changes."""

    def __init__(self, ask: Ask, changed: Callable[[list[Change]], None]) -> None:
        self._ask, self._changed = ask, changed
        self._connection: WorkerConnection | None = None
        self._challenges: dict[str, Challenge] = {}
        """By hostname. They stay when the issuer ends: the authority may be about to ask for the proof of an order
        that the next one takes up again."""
        self._waiting: dict[str, None] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def joined(self, connection: WorkerConnection) -> None:
        """The issuer has connected; it takes the place of one before it."""
        self._connection = connection
        if self._waiting:
            connection.send(CertificatesWanted(list(self._waiting)))
            self._waiting.clear()

    def left(self, connection: WorkerConnection) -> None:
        """A connection is lost, perhaps that of the issuer."""
        if connection is self._connection:
            self._connection = None

    def worker_joined(self, connection: WorkerConnection, number: int) -> None:
        """Send a new worker the proofs that all serve."""
        if self._challenges:
            connection.send(ServeChallenges(number, list(self._challenges.values())))

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._connection is not None:
            self._connection.close()

    def wanted(self, message: CertificatesWanted) -> None:
        """Pass on what a worker wants, now or when the issuer has connected. What is lost, the next handshakes ask
        for again."""
        if self._connection is not None:
            self._connection.send(message)
            return
        for hostname in message.hostnames:
            if len(self._waiting) < MOST_WAITING:
                self._waiting[hostname] = None

    def received(self, connection: WorkerConnection, message: FromIssuer) -> None:
        """Begin to carry out a request of the issuer."""
        if isinstance(message, Changed):
            self._changed(message.changes)
        elif len(self._tasks) < MOST_REQUESTS:
            task = asyncio.get_running_loop().create_task(self._reply(connection, message), name="issuer")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _reply(self, connection: WorkerConnection, message: ServeChallenges | AskHostname) -> None:
        if isinstance(message, ServeChallenges):
            served = self._update(message)
            replies = await self._ask(lambda number: ServeChallenges(number, served))
            body = msgspec.json.encode(len([reply for reply in replies.workers if not reply.error]))
        else:
            replies = await self._ask(lambda number: AskHostname(number, message.host))
            body = msgspec.json.encode(_agreed([bytes(reply.content) for reply in replies.workers]))
        connection.send(ControlReply(message.number, body))

    def _update(self, message: ServeChallenges) -> list[Challenge]:
        """Add and remove proofs. Returns those to serve; beyond MOST, the oldest are dropped."""
        served = self._challenges
        for hostname in message.ended:
            served.pop(hostname, None)
        for challenge in message.challenges:
            served.pop(challenge[0], None)
            served[challenge[0]] = challenge
        while len(served) > MOST:
            del served[next(iter(served))]
        return list(served.values())


def _agreed(found: list[bytes]) -> str:
    """What the workers know of a hostname, each of which has asked: known if one knows it."""
    states = [msgspec.json.decode(each, type=str | None) for each in found]
    return next((state for state in ("known", "unknown") if state in states), "unsure")
