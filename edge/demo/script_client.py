"""The HTTP client of the script: sends requests to styx, and records each response or failure and its container."""

import asyncio
import hashlib
import itertools
import json
import os
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

RESPONSE_TIMEOUT = 8.0
"Seconds for one request and its response."

PIECE = 256 * 1024

CUT = 0
"Status of a request without a response: the connection was refused or cut."


@dataclass(frozen=True, slots=True)
class ScriptReply:
    """The response to one request, or its failure."""

    status: int
    error: str
    "X-Styx-Error, or the exception that ended the connection."
    container: str
    "X-Container; empty = a local reply of the edge, or no response."
    seconds: float
    body: bytes = field(repr=False, default=b"")

    @property
    def words(self) -> str:
        return f"{self.status or 'cut'} {self.error}".strip()


@dataclass(frozen=True, slots=True)
class Order:
    """A POST that must be executed exactly once."""

    id: str
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, size: int) -> "Order":
        """An order with a unique body of `size` bytes."""
        return cls(os.urandom(8).hex(), os.urandom(4096) * (size // 4096))

    def is_receipt(self, reply: ScriptReply) -> bool:
        """Whether the reply shows that the container received the whole body unchanged."""
        if reply.status != 200:
            return False
        receipt: dict[str, Any] = json.loads(reply.body)
        return (receipt["bytes"], receipt["sha256"]) == (len(self.body), hashlib.sha256(self.body).hexdigest())


class OnThisMachine(AbstractResolver):
    """Takes every hostname for one of this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


class ScriptClient:
    """Sends requests for any hostname to the styx at this port. Use it with `async with`."""

    def __init__(self, port: int, trusted: str | None = None) -> None:
        """`trusted`: file with the authority of its certificates; None = it speaks plain HTTP."""
        self._origin = f"{'http' if trusted is None else 'https'}://{{hostname}}:{port}"
        context = True if trusted is None else ssl.create_default_context(cafile=trusted)
        self.has_tls = trusted is not None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, resolver=OnThisMachine(), ssl=context),
            timeout=aiohttp.ClientTimeout(total=RESPONSE_TIMEOUT),
        )
        # Otherwise aiohttp silently retries a GET whose connection was dropped, and hides the failure.
        self._session._retry_connection = False
        self.answered = 0
        "Number of requests that have ended, with a response or a failure."

    async def __aenter__(self) -> "ScriptClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, hostname: str, path: str = "/") -> ScriptReply:
        """Send a GET."""
        return await self._reply("GET", hostname, path, {})

    async def ask_often(self, hostname: str, count: int, *, at_once: int = 10) -> list[ScriptReply]:
        """Send `count` GETs, at most `at_once` at the same time."""
        todo = iter(range(count))

        async def one_client() -> list[ScriptReply]:
            return [await self.ask(hostname) for _ in todo]

        clients = await asyncio.gather(*(one_client() for _ in range(at_once)))
        return list(itertools.chain.from_iterable(clients))

    async def order(
        self, hostname: str, order: Order, *, chunked: bool = False, expect: bool = False
    ) -> ScriptReply:
        """Send a POST. `expect`: send the body only after a "100 Continue" of the container."""
        headers = {"X-Order-Id": order.id}
        if not chunked:
            headers["Content-Length"] = str(len(order.body))
        return await self._reply("POST", hostname, "/", headers, _pieces(order.body), expect)

    async def _reply(
        self,
        method: str,
        hostname: str,
        path: str,
        headers: dict[str, str],
        data: AsyncIterator[bytes] | None = None,
        expect: bool = False,
    ) -> ScriptReply:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            url = self._origin.format(hostname=hostname) + path
            async with self._session.request(
                method, url, headers=headers, data=data, expect100=expect, allow_redirects=False
            ) as response:
                body = await response.read()
                error = response.headers.get("X-Styx-Error", "")
                container = response.headers.get("X-Container", "")
                return ScriptReply(response.status, error, container, loop.time() - began, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            return ScriptReply(CUT, type(error).__name__, "", loop.time() - began)
        finally:
            self.answered += 1


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(body), PIECE):
        yield body[begin : begin + PIECE]


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Poll a condition that sets no event; False = it was not true in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.002)
    return True


def who_answered(replies: Sequence[ScriptReply]) -> Counter[str]:
    """Number of responses by container."""
    return Counter(reply.container for reply in replies if reply.container)


def what_came(replies: Sequence[ScriptReply]) -> str:
    """Format statuses and errors of the edge, as `198 x 200, 2 x 503 all_refused`."""
    counts = Counter(reply.words for reply in replies)
    return ", ".join(f"{count} x {words}" for words, count in counts.most_common())
