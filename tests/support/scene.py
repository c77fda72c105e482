"""The verbs of the scenes: a real worker between raw clients, scripted backends and a scripted core API.

    async def test_a_refusing_backend_is_passed_over(scene):
        full, live = scene.refusing(), scene.backend(status=204)
        scene.route("shop.test", [full, live])
        assert (await scene.get("shop.test")).status == 204
        assert scene.attempts == ["refused", "ok"]

Everything runs in the test's loop. Dice fall on 0, so that backends are tried in the order of the route.
What must hold after every scene (nothing left in flight, nothing raised in the loop) is checked at its end.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from edge.net.accept.listener import open_listener
from edge.net.h1.h1_connection import H1Connection
from edge.net.h2.h2_connection import H2Connection
from edge.rules.exchange_records import Outcome
from edge.rules.explain_records import ExplainedBackend
from edge.rules.settings import Settings
from edge.run.worker import Worker
from tests.support.h2_scene_client import H2Client
from tests.support.scene_backends import (
    DEADLINE,
    Backend,
    Gone,
    Received,
    Script,
    Wire,
    answering,
    head_of,
    raw,
    refusing,
    silent,
)
from tests.support.scene_client import Client, CutShort, Reply
from tests.support.scene_core_api import ScriptedCoreApi

MIB = 1 << 20
SHORT = 0.15
"A deadline that a test waits for."

LISTENERS = {
    "h1": {"address": "127.0.0.1:0"},
    "h2": {"address": "127.0.0.1:0", "http2": True},
}

Fields = Sequence[tuple[str, str]]


class Scene:
    """See the module."""

    def __init__(self, kind: str = "h1") -> None:
        """`kind`: of its clients, h1 or h2."""
        self.kind = kind
        self.core = ScriptedCoreApi()
        self.backends: list[Backend] = []
        self.clients: list[Client] = []
        self.outcomes: list[Outcome] = []
        self.dice = 0.0
        self.faults: list[dict[str, Any]] = []
        "What the loop's exception handler was told."
        self._overrides: dict[str, Any] = {}
        self._listeners: tuple[dict[str, Any], ...] = ({},)
        self._worker: Worker | None = None
        self._generation = 0
        self._news = asyncio.Event()
        self._ahead = 0.0
        "Seconds by which the clock of the edge is ahead of the real one."

    # the cast

    def settings(self, **sections: Any) -> None:
        """Override settings, before the first request: `scene.settings(timeouts={"head": 0.1})`."""
        assert self._worker is None
        for name, section in sections.items():
            self._overrides[name] = {**self._overrides.get(name, {}), **section}

    def change(self, section: str, **members: Any) -> None:
        """Apply hot settings while the edge runs: `scene.change("core_api", timeout=0.1)`. For what is to hold only
        once something else has happened, which may take longer on a busy machine."""
        settings = self.worker.settings
        changed = getattr(settings, section).model_copy(update=members)
        self.worker.reconfigure(settings.model_copy(update={section: changed}))

    def listeners(self, *settings: dict[str, Any]) -> None:
        """Where the edge listens: `scene.listeners({}, {"trusted": ("10.0.0.0/8",)})`. By default on one port."""
        assert self._worker is None
        self._listeners = settings

    def scripted(self, script: Script) -> Backend:
        return self._cast(Backend(f"b{len(self.backends)}", script))

    def backend(
        self, status: int = 200, body: bytes = b"hello", headers: Fields = (), framing: str = "length"
    ) -> Backend:
        """Answers."""
        return self.scripted(answering(status, body, headers=list(headers), framing=framing))

    def refusing(self, retry_after: int | None = None, *, after: int = 0) -> Backend:
        """Is full; says so after `after` bytes of the request's body (0 = after all of it)."""
        return self.scripted(refusing(retry_after, after=after))

    def misdirecting(self) -> Backend:
        """Is somebody else."""
        return self.backend(status=421, body=b"not me")

    def silent(self) -> Backend:
        """Reads, never answers."""
        return self.scripted(silent)

    def raw(self, response: bytes, *, then: str = "stay") -> Backend:
        """Answers with these bytes; `then` stay, close or reset."""
        return self.scripted(raw(response, then=then))

    def cutting(self, after: int = 10, framing: str = "length", *, then: str = "close") -> Backend:
        """Announces 1000 bytes, sends `after` of them, and goes. `after` < 0: goes before the head."""
        return self.raw(b"" if after < 0 else half_answer(after, framing), then=then)

    def stalling(self, after: int = 10, framing: str = "length") -> Backend:
        """Announces 1000 bytes, sends `after` of them, and no more."""
        return self.raw(half_answer(after, framing))

    def dead(self) -> Backend:
        """Nobody listens on its port."""
        return self._cast(Backend(f"b{len(self.backends)}"))

    def unreachable(self) -> Backend:
        """Connecting to it hangs."""
        backend = self._cast(Backend(f"b{len(self.backends)}"))
        backend.be_unreachable()
        return backend

    def _cast(self, backend: Backend) -> Backend:
        self.backends.append(backend)
        return backend

    def route(
        self, host: str, backends: Sequence[Backend] = (), *, then: Sequence[Backend] | None = None, **members: Any
    ) -> dict[str, Any]:
        """Tell the core API that these serve a hostname; `then` from its second answer on.

        Every call is a newer generation.
        """
        if then is not None:
            self.core.first[host] = self.route(host, backends, **members)
            return self.route(host, then, **members)
        self._generation += 1
        plain = {"hostname": host, "site": host, "environment": "live", "generation": self._generation}
        plain |= {"backends": [b.answer for b in backends], "maintenance": False, "redirect": None}
        self.core.routes[host] = {**plain, **members}
        return self.core.routes[host]

    # the edge

    async def edge(self) -> Worker:
        """The worker; started at the first call."""
        if self._worker is None:
            await self.core.start()
            settings = {
                "listeners": tuple({**LISTENERS[self.kind], **chosen} for chosen in self._listeners),
                "core_api": {"url": self.core.url, "timeout": 5.0},
                "access_log": {"path": ""},
                "edge_name": "edge-1",
            }
            for name, section in self._overrides.items():
                settings[name] = {**settings.get(name, {}), **section}  # type: ignore[dict-item]
            loaded = Settings.model_validate(settings)
            self._worker = worker = Worker(loaded, observe=self._observe, clock=self._clock, rand=lambda: self.dice)
            await worker.start([(listener, open_listener(listener.address)) for listener in loaded.listeners])
        return self._worker

    def _clock(self) -> float:
        return time.monotonic() + self._ahead

    def pass_time(self, seconds: float) -> None:
        """For the edge it is so much later, at once; whose deadline has passed is told.

        Only for what it waits for by its clock: not for connects, lookups, and pauses between attempts.
        """
        self._ahead += seconds
        self.worker.context.deadline_sweep.look()

    @property
    def connections(self) -> list[H1Connection | H2Connection]:
        """The edge's side of the clients' connections."""
        members = self.worker.context.deadline_sweep
        return [member for member in members if isinstance(member, H1Connection | H2Connection)]

    async def small_send_buffer(self) -> None:
        """Let the system buffer little for the only client, so that most of a longer response waits in the edge."""
        await self.until(lambda: self.snapshot.client_connections == 1)
        [connection] = self.connections
        assert connection._transport is not None
        connection._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    @property
    def worker(self) -> Worker:
        assert self._worker is not None
        return self._worker

    @property
    def snapshot(self) -> SimpleNamespace:
        return SimpleNamespace(**self.worker.snapshot())

    def explained(self, host: str, backend: Backend) -> ExplainedBackend:
        """What the edge thinks of a backend."""
        route = self.worker.explain(host)
        assert route is not None
        [found] = [b for b in route.backends if b.id == backend.name]
        return found

    def points(self, host: str, backend: Backend) -> float:
        return sum(demerit.points for demerit in self.explained(host, backend).demerits)

    def _observe(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self._news.set()

    def ask_again(self, host: str) -> None:
        """The core API may be asked for this hostname now, as it may be after a pause."""
        route = self.worker.context.table.get(host)
        if route is not None:
            route.no_lookup_before = 0.0

    # what was told

    @property
    def outcome(self) -> Outcome:
        """Of the exchange that ended last."""
        return self.outcomes[-1]

    @property
    def attempts(self) -> list[str]:
        """How the attempts of the last exchange ended."""
        return [attempt.result.value for attempt in self.outcome.attempts]

    @property
    def tried(self) -> list[str]:
        """Whom the last exchange tried."""
        return [attempt.backend for attempt in self.outcome.attempts]

    @property
    def letters(self) -> str:
        """Who ended the last exchange, and in which phase."""
        return f"{self.outcome.blame}{self.outcome.phase}"

    async def ended(self, count: int = 1) -> Outcome:
        """Wait until so many exchanges have ended in all."""
        async with asyncio.timeout(DEADLINE):
            while len(self.outcomes) < count:
                self._news.clear()
                await self._news.wait()
        return self.outcome

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that rings no bell; fail after the deadline."""
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - plain numbers of the code under test raise no event
                await asyncio.sleep(0.001)

    # the client

    async def client(self, listener: int = 0, **options: Any) -> Client:
        """A new connection to the edge."""
        return await self._client(H2Client if self.kind == "h2" else Client, listener, options)

    async def raw_client(self, listener: int = 0, **options: Any) -> Client:
        """A new connection on which bytes are written and read as they are."""
        return await self._client(Client, listener, options)

    async def _client(self, carrier: type[Client], listener: int, options: dict[str, Any]) -> Client:
        worker = await self.edge()
        client = await carrier.connect(worker.ports[listener], **options)
        self.clients.append(client)
        return client

    async def ask(self, head_and_body: bytes, method: str = "GET") -> Reply:
        """One request on a connection of its own."""
        client = await self.client()
        await client.write(head_and_body)
        try:
            return await client.read_reply(method)
        finally:
            client.leave()

    async def get(
        self, host: str, path: str = "/", headers: Fields = (), *, method: str = "GET", version: str = "1.1"
    ) -> Reply:
        return await self.ask(request(host, path, headers, method=method, version=version), method)

    async def post(
        self, host: str, path: str = "/", body: bytes = b"a=1", headers: Fields = (), *, method: str = "POST"
    ) -> Reply:
        return await self.ask(request(host, path, headers, method=method, body=body), method)

    async def send_raw(self, data: bytes) -> bytes:
        """Write these bytes on a new connection; everything that comes until the edge closes it."""
        client = await self.client()
        await client.write(data)
        try:
            return await client.rest()
        finally:
            client.leave()

    # the end

    async def end(self) -> None:
        """Take everything down; then nothing may be left, and nothing may have gone wrong unseen."""
        for client in self.clients:
            client.leave()
        self.core.release()
        for backend in self.backends:
            backend.release()
            await backend.stop()
        try:
            if self._worker is not None:
                await self._check_nothing_left(self._worker)
        finally:
            if self._worker is not None:
                await self._worker.stop(time_limit=0.1)
            await self.core.stop()
        assert not self.faults, self.faults

    async def _check_nothing_left(self, worker: Worker) -> None:
        await self.until(lambda: not (self.snapshot.exchanges or self.snapshot.client_connections))
        await self.until(lambda: not self.snapshot.links_busy)
        opened = {counts.name: counts.connections for counts in worker.context.counts.listeners.values()}
        assert not any(opened.values()), f"still counted for their listener: {opened}"
        for host in self.core.routes:
            route = worker.explain(host)
            busy = {b.id: b.in_flight for b in route.backends if b.in_flight} if route is not None else {}
            assert not busy, f"still in flight: {busy}"
            route = worker.context.table.get(host)
            assert not any(s.waiting for s in (route.states if route is not None else ())), "still awaited"


def request(
    host: str,
    path: str = "/",
    headers: Fields = (),
    *,
    method: str = "GET",
    version: str = "1.1",
    body: bytes | None = None,
) -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/{version}", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def chunked(*parts: bytes) -> bytes:
    """A whole body in the chunked transfer coding."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def half_answer(size: int, framing: str) -> bytes:
    """The head of a response of 1000 bytes, and `size` bytes of it."""
    fields = {"length": [("Content-Length", "1000")], "chunked": [("Transfer-Encoding", "chunked")], "close": []}
    body = b"3e8\r\n" + b"x" * size if framing == "chunked" else b"x" * size
    return head_of(200, fields[framing]) + body


__all__ = [
    "MIB",
    "SHORT",
    "Backend",
    "Client",
    "CutShort",
    "Gone",
    "Received",
    "Reply",
    "Scene",
    "Wire",
    "chunked",
    "head_of",
    "request",
]
