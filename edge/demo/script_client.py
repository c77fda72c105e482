"""The client of the script: asks through styx, hides no failure, and says from whom the answers came."""

import asyncio
import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import aiohttp

PATIENCE = 8.0
"Seconds for one answer."

PIECE = 256 * 1024

CUT = 0
"The status of a reply that never came: the connection was refused or cut."


@dataclass(frozen=True, slots=True)
class ScriptReply:
    """What came back for one request."""

    status: int
    error: str
    "X-Styx-Error, or what the connection died of."
    container: str
    "Who says that it answered; empty = the edge did, or nobody."
    seconds: float
    body: bytes = field(repr=False, default=b"")

    @property
    def words(self) -> str:
        return f"{self.status or 'cut'} {self.error}".strip()


@dataclass(frozen=True, slots=True)
class Order:
    """A POST that may be executed once, and what the container has to say about it."""

    id: str
    body: bytes = field(repr=False)

    @classmethod
    def of(cls, size: int) -> "Order":
        """With a body that nobody else has."""
        return cls(os.urandom(8).hex(), os.urandom(4096) * (size // 4096))

    def is_receipt(self, reply: ScriptReply) -> bool:
        """Whether the container got all of it, as it was sent."""
        if reply.status != 200:
            return False
        told: dict[str, Any] = json.loads(reply.body)
        return (told["bytes"], told["sha256"]) == (len(self.body), hashlib.sha256(self.body).hexdigest())


class ScriptClient:
    """Asks styx at this port for any hostname. `async with`."""

    def __init__(self, port: int) -> None:
        self._session = aiohttp.ClientSession(
            f"http://127.0.0.1:{port}",
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=PATIENCE),
        )
        # It would repeat a GET whose connection was dropped, by itself and silently: just what must be seen.
        self._session._retry_connection = False
        self.answered = 0
        "Requests that have come to an end, well or badly."

    async def __aenter__(self) -> "ScriptClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def ask(self, hostname: str, path: str = "/") -> ScriptReply:
        """GET."""
        return await self._reply("GET", path, {"Host": hostname})

    async def ask_often(self, hostname: str, count: int, *, at_once: int = 10) -> list[ScriptReply]:
        """GET so often, never more than `at_once` at the same time."""
        todo = iter(range(count))

        async def one_client() -> list[ScriptReply]:
            return [await self.ask(hostname) for _ in todo]

        clients = await asyncio.gather(*(one_client() for _ in range(at_once)))
        return list(itertools.chain.from_iterable(clients))

    async def order(
        self, hostname: str, order: Order, *, chunked: bool = False, expect: bool = False
    ) -> ScriptReply:
        """POST. `expect`: send the body only when the container has said "100 Continue"."""
        headers = {"Host": hostname, "X-Order-Id": order.id}
        if not chunked:
            headers["Content-Length"] = str(len(order.body))
        return await self._reply("POST", "/", headers, _pieces(order.body), expect)

    async def _reply(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        data: AsyncIterator[bytes] | None = None,
        expect: bool = False,
    ) -> ScriptReply:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with self._session.request(
                method, path, headers=headers, data=data, expect100=expect, allow_redirects=False
            ) as answer:
                body = await answer.read()
                error = answer.headers.get("X-Styx-Error", "")
                who = answer.headers.get("X-Container", "")
                return ScriptReply(answer.status, error, who, loop.time() - began, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            return ScriptReply(CUT, type(error).__name__, "", loop.time() - began)
        finally:
            self.answered += 1


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for begin in range(0, len(body), PIECE):
        yield body[begin : begin + PIECE]


async def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for something that nobody announces; False = it did not happen in time."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.002)
    return True


def who_answered(replies: Sequence[ScriptReply]) -> Counter[str]:
    """Answers by container."""
    return Counter(reply.container for reply in replies if reply.container)


def what_came(replies: Sequence[ScriptReply]) -> str:
    """Statuses and the edge's own errors, as `198 x 200, 2 x 503 all_refused`."""
    counts = Counter(reply.words for reply in replies)
    return ", ".join(f"{count} x {words}" for words, count in counts.most_common())
