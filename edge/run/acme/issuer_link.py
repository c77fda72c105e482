"""The issuer's end of the control channel, over which it talks to the workers (`control/issuer_relay.py`)."""

import asyncio
import itertools
import os
from collections.abc import Callable
from typing import Any

import msgspec

from edge import __version__
from edge.rules.routing.change_records import Change
from edge.rules.tls.challenge_responses import Challenge
from edge.run.control.control_link import ControlLink, Password
from edge.run.control.control_messages import (
    AskHostname,
    CertificatesWanted,
    Changed,
    ControlReply,
    Hello,
    Message,
    ServeChallenges,
    ToIssuer,
)

TIMEOUT = 10.0
"Seconds for the admin process to reply."


class IssuerLink(ControlLink):
    """The issuer's connection to the admin process. `wanted` is called with hostnames for which workers have found
    no certificate."""

    def __init__(self, password: Password, wanted: Callable[[list[str]], None]) -> None:
        super().__init__(password, ToIssuer)
        self._wanted = wanted
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[bytes]] = {}
        self._challenges: dict[str, Challenge] = {}

    async def route_of(self, hostname: str) -> str:
        """Whether the source of routes knows a hostname: `known`, `unknown`, or `unsure`."""
        body = await self._ask(lambda number: AskHostname(number, hostname))
        return "unsure" if body is None else msgspec.json.decode(body, type=str)

    async def serve(self, challenge: Challenge) -> int:
        """Have all workers serve this proof. Returns how many do; workers that connect later do as well."""
        self._challenges[challenge[0]] = challenge
        body = await self._ask(lambda number: ServeChallenges(number, [challenge]))
        return 0 if body is None else msgspec.json.decode(body, type=int)

    def end(self, hostname: str) -> None:
        """Have no worker serve the proof of this hostname any more."""
        if self._challenges.pop(hostname, None) is not None:
            self._send(ServeChallenges(0, [], [hostname]))

    def changed(self, hostname: str) -> None:
        """Tell all workers that the certificate of a name has been written."""
        self._send(Changed([Change("certificate", hostname)]))

    async def _ask(self, request: Callable[[int], Message]) -> bytes | None:
        number = next(self._numbers)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        try:
            if not self._send(request(number)):
                return None
            async with asyncio.timeout(TIMEOUT):
                return await reply
        except (TimeoutError, ConnectionError):
            return None
        finally:
            del self._replies[number]

    # ControlLink

    def _connected(self) -> None:
        self._send(Hello(__version__, self._password.secret, 0, os.getpid(), "issuer"))
        if self._challenges:  # the admin process may be another one
            self._send(ServeChallenges(0, list(self._challenges.values())))

    def _disconnected(self) -> None:
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ConnectionResetError())

    def _receive(self, message: Any) -> None:
        match message:
            case CertificatesWanted(hostnames):
                self._wanted(hostnames)
            case ControlReply(number, body):
                reply = self._replies.get(number)
                if reply is not None and not reply.done():
                    reply.set_result(body)
