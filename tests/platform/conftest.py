"""Helpers and fixtures for tests of the pocket platform, over real sockets on loopback."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from edge.platform.containers.builtin_container import BuiltinContainer
from edge.platform.containers.container import ContainerSpec, Recipe, State
from edge.platform.pocket_platform import PlatformSpec, PocketPlatform

DEADLINE = 100.0
"Seconds after which a wait in a test has failed."


@dataclass(frozen=True)
class Response:
    """One response as received; `body` is raw, and still chunked if it was sent chunked."""

    status: int
    headers: dict[str, str]
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "Response":
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        return cls(int(first.split(" ")[1]), headers, body)

    @property
    def refused(self) -> str | None:
        return self.headers.get("x-styx-refused")

    def json(self) -> Any:
        body = self.body
        if self.headers.get("transfer-encoding") == "chunked":
            body = dechunked(body)
        return json.loads(body)


def dechunked(raw: bytes) -> bytes:
    body = b""
    while raw:
        size, _, rest = raw.partition(b"\r\n")
        body += rest[: int(size, 16)]
        raw = rest[int(size, 16) + 2 :]
    return body


def request_bytes(path: str, method: str, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *(f"{k}: {v}" for k, v in headers.items())]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


Ask = Callable[..., Awaitable[Response]]


@pytest.fixture
def ask() -> Ask:
    """ask(port, path, method=..., body=..., headers={...}) -> Response, on a connection of its own."""

    async def asked(
        port: int,
        path: str = "/",
        *,
        method: str = "GET",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Response:
        async with asyncio.timeout(DEADLINE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(request_bytes(path, method, body, {"Connection": "close", **(headers or {})}))
                return Response.parse(await reader.read(-1))
            finally:
                writer.close()

    return asked


Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def until() -> Until:
    """until(condition): return when it is true, fail after the deadline."""

    async def held(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - plain numbers of the code under test raise no event
                await asyncio.sleep(0.001)

    return held


Build = Callable[..., Awaitable[BuiltinContainer]]


@pytest.fixture
async def build() -> AsyncIterator[Build]:
    """build(workers=..., ...) -> a started builtin container; `states` collects its state changes."""
    built: list[BuiltinContainer] = []

    async def make(states: list[State] | None = None, **recipe: Any) -> BuiltinContainer:
        spec = ContainerSpec(
            id=f"b{len(built):03}", site="acme", environment="live", recipe=Recipe(**{"service_time": 0, **recipe})
        )
        on_change = None if states is None else lambda _, state: states.append(state)
        container = BuiltinContainer(spec, rand=random.Random(7), on_state_change=on_change)
        built.append(container)
        await (container.sleep() if spec.recipe.asleep else container.start())
        return container

    yield make
    for container in built:
        await container.kill()
        container.dismiss()


@pytest.fixture
async def platform() -> AsyncIterator[PocketPlatform]:
    spec = PlatformSpec(notice=0.02, seed=7, heartbeat=0.05)
    async with asyncio.timeout(250), PocketPlatform(spec) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=DEADLINE, sock_read=DEADLINE)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session
