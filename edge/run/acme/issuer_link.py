"""The issuer's end of the control channel, over which it talks to the workers (`control/issuer_relay.py`)."""

import asyncio
import itertools
import logging
import os
from collections.abc import Callable
from typing import Any, cast

import msgspec

from edge import __version__
from edge.rules.routing.change_records import Change
from edge.rules.tls.challenge_responses import Challenge
from edge.run.control.control_client import Password
from edge.run.control.control_messages import (
    AskHostname,
    BadMessage,
    CertificatesWanted,
    Changed,
    ControlReply,
    Hello,
    Message,
    ServeChallenges,
    ToIssuer,
    Unpacker,
    packed,
)
from edge.run.control.keep_connected import keep_connected

TIMEOUT = 10.0
"Seconds for the admin process to reply."

log = logging.getLogger("styx.issuer")


class IssuerLink(asyncio.Protocol):
    """A connection to the admin process, made again when it is lost. `wanted` is called with hostnames for which
    workers have found no certificate."""

    def __init__(self, password: Password, wanted: Callable[[list[str]], None]) -> None:
        self._password = password
        self._wanted = wanted
        self._transport: asyncio.Transport | None = None
        self._lost = asyncio.Event()
        self._unpacker = Unpacker(ToIssuer)
        self._numbers = itertools.count(1)
        self._replies: dict[int, asyncio.Future[bytes]] = {}
        self._challenges: dict[str, Challenge] = {}

    async def stay_connected(self) -> None:
        """Connect now, and again whenever the connection is lost."""
        await keep_connected(self._password.address, self._begin, self._lost)

    def _begin(self) -> "IssuerLink":
        self._unpacker = Unpacker(ToIssuer)
        return self

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

    async def _ask(self, question: Callable[[int], Message]) -> bytes | None:
        number = next(self._numbers)
        reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        try:
            if not self._send(question(number)):
                return None
            async with asyncio.timeout(TIMEOUT):
                return await reply
        except (TimeoutError, ConnectionError):
            return None
        finally:
            del self._replies[number]

    def _send(self, message: Message) -> bool:
        if self._transport is None or self._transport.is_closing():
            return False
        self._transport.write(packed(message))
        return True

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send(Hello(__version__, self._password.secret, 0, os.getpid(), "issuer"))
        if self._challenges:  # the admin process may be another one
            self._send(ServeChallenges(0, list(self._challenges.values())))

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ConnectionResetError())
        self._lost.set()

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._unpacker.feed(data):
                self._receive(message)
        except BadMessage as error:
            log.warning("control connection closed", extra={"code": "bad_control_message", "error": str(error)})
            if self._transport is not None:
                self._transport.abort()

    def _receive(self, message: Any) -> None:
        match message:
            case CertificatesWanted(hostnames):
                self._wanted(hostnames)
            case ControlReply(number, body):
                reply = self._replies.get(number)
                if reply is not None and not reply.done():
                    reply.set_result(body)
