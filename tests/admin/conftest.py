"""Fixtures of the tests of edge.admin: an outcome, a snapshot, an explanation, and an admin server."""

import asyncio
import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from edge.admin.admin_connections import Bounds
from edge.admin.admin_messages import (
    CommandResult,
    ConfigSetting,
    Configuration,
    LogLevels,
    ProcessLogLevel,
    WorkerReplies,
    WorkerReply,
)
from edge.admin.admin_server import AdminServer
from edge.admin.health import Health
from edge.admin.metric_sources import EdgeState
from edge.admin.metrics_collector import new_registry
from edge.admin.scoreboard import LAYOUT, Scoreboard
from edge.admin.status_page.edge_status import EdgeStatus
from edge.admin.status_page.status_page import StatusPage
from edge.net.accept.listener import open_listener
from edge.rules.balancing.drains import TooManyDrains
from edge.rules.environment_status_records import WorkerStatus
from edge.rules.exchange_records import Attempted, DetailedOutcome, Outcome
from edge.rules.explain_records import ExplainedBackend, ExplainedDemerit, ExplainedRoute, KnownName
from edge.rules.limits.client_records import ClientList, ClientNow
from edge.rules.outcomes import Blame, Cause, Phase
from edge.rules.route_sets.route_file_guard import RouteFileState
from edge.rules.routing.invalidation import StreamState
from edge.rules.settings.values import Address
from edge.rules.traffic.top_records import SiteLoad, TopReport

FINE = Attempted(backend="b7c1", result=Cause.OK, status=200, connect_ms=0.0, first_byte_ms=12.5)


def build_outcome(**changes: Any) -> Outcome:
    """An outcome of a request with a response 200; `changes` replace members."""
    plain = Outcome(
        time=1_760_000_000.25,
        id="0123456789abcdef",
        client="203.0.113.9",
        method="GET",
        host="live-acme.example.org",
        target="/node/12?x=1",
        status=200,
        bytes_in=0,
        bytes_out=5120,
        site="acme",
        environment="live",
        backend="b7c1",
        phase=Phase.FINISHED,
        blame=Blame.NOBODY,
        cause=Cause.OK,
        resolve_ms=0.0,
        connect_ms=0.0,
        first_byte_ms=12.5,
        total_ms=15.0,
        overhead_ms=0.03,
        attempts=[FINE],
    )
    if changes.keys() - set(Outcome.__struct_fields__):
        plain = DetailedOutcome(*(getattr(plain, name) for name in Outcome.__struct_fields__))
    return msgspec.structs.replace(plain, **changes)


@pytest.fixture
def outcome() -> Callable[..., Outcome]:
    return build_outcome


@pytest.fixture
def snapshot() -> dict[str, float]:
    """Published numbers of a worker, a different one for each key."""
    keys = [key for key, _ in (*LAYOUT.published_gauges, *LAYOUT.published_counters)]
    return {**{key: number for number, key in enumerate(keys, 1)}, "core_api_up": True}


@pytest.fixture
def backend() -> Callable[..., ExplainedBackend]:
    def build(**changes: Any) -> ExplainedBackend:
        plain = ExplainedBackend(
            id="b7c1",
            address="10.4.7.12:26607",
            server="srv-192",
            role="active",
            state="running",
            demerits=[],
            weight=1.0,
            probability=0.909,
            in_flight=2,
            rests_for=0.0,
            condition="healthy",
            condition_for=None,
            on_probation_for="",
            next_probe=None,
            samples=812,
            typical_ms=12.2,
            error_ratio=0.0,
        )
        return msgspec.structs.replace(plain, **changes)

    return build


@pytest.fixture
def explained(backend: Callable[..., ExplainedBackend]) -> ExplainedRoute:
    slow = ExplainedDemerit(cause="slower than its neighbours", points=2.303, age=4.2)
    timeless = ExplainedDemerit(cause="on probation", points=0.5, age=None)
    return ExplainedRoute(
        hostname="live-acme.example.org",
        known=True,
        freshness="fresh",
        age=12.2,
        fresh_for=47.8,
        next_lookup=42.2,
        source="the core API",
        usable_for=86_387.8,
        last_error=None,
        site="acme",
        environment="live",
        generation=1842,
        maintenance=False,
        redirect=None,
        backends=[
            backend(),
            backend(
                id="c0d9",
                server="srv-217",
                address="10.4.9.1:26611",
                demerits=[slow, timeless],
                weight=0.0606,
                probability=0.091,
                in_flight=0,
                typical_ms=140.4,
                error_ratio=0.125,
                rests_for=8.4,
            ),
            backend(
                id="e1",
                server="srv-9",
                role="standby",
                state="asleep",
                probability=0.0,
                in_flight=0,
                samples=0,
                typical_ms=None,
            ),
        ],
    )


LOOPBACK = Address("127.0.0.1", 0)


class TwoWorkers:
    """A ControlApi of two workers, of which the second does not reply."""

    def __init__(self, snapshot, explained):
        self._snapshot, self._explained = snapshot, explained
        self.commands, self.invalidated, self._drains = [], [], []
        self.result = CommandResult(True, ["nothing changed"])
        self.known_servers = ["srv-1", "s"]
        self.tops = 0
        "How often the busiest sites were asked for."
        self.full = False
        self.issuances = {}
        "Whether there are as many drains as there may be."
        self.more = ""
        "Text that makes each snapshot longer."
        self._asked, self._may_reply = asyncio.Semaphore(0), asyncio.Event()
        self._may_reply.set()

    def hold(self):
        """Do not reply until `go_on` is called."""
        self._may_reply.clear()

    def go_on(self):
        self._may_reply.set()

    async def was_asked(self, times):
        for _ in range(times):
            await self._asked.acquire()

    async def snapshots(self):
        self._asked.release()
        await self._may_reply.wait()
        return self._replies([self._snapshot, self.more] if self.more else self._snapshot)

    async def routes(self, start, most, site, freshness):
        self.asked = (start, most, site, freshness)
        return WorkerReplies([], [0, 1])

    async def explain(self, host):
        if host == "fault.test":
            raise RuntimeError("planted")
        return self._replies(self._explained if host == self._explained.hostname else None)

    async def invalidate(self, kind, name):
        self.invalidated.append((kind, name))
        return self._replies(3)

    async def issuance(self, host):
        return self.issuances.get(host)

    async def search_name(self, kind, name):
        known = {
            "hostname": [self._explained.hostname],
            "server": self.known_servers,
            "backend": ["acme/live/b7c1"],
        }
        nearest = [other for other in known.get(kind, ()) if kind != "server"]
        return self._replies(KnownName(name in known.get(kind, ()), nearest))

    async def statuses(self):
        return self._replies(WorkerStatus(0, 0, [], []))

    async def top(self):
        self.tops += 1
        load = SiteLoad("acme", "live", 120.0, 6.0, 12.0, hostname="www.acme.test")
        return self._replies(TopReport(60.0, [load], [load], [load]))

    async def drain(self, drain):
        if self.full:
            raise TooManyDrains("1000 drains are under way")
        self._drains = [each for each in self._drains if each.name != drain.name]
        if drain.seconds:
            self._drains.append(drain)
        return self._replies(len(self._drains))

    def drains(self):
        return self._drains

    async def clients(self):
        return self._replies(ClientList(1, [ClientNow("203.0.113.9", 3, 2, 0, False)]))

    async def log_levels(self):
        replies = self._replies(ProcessLogLevel("info", "info", 0.0))
        return LogLevels(ProcessLogLevel("info", "info", 0.0), replies.workers, replies.silent)

    async def set_log_level(self, level, seconds):
        self.level_set = (level, seconds)
        return await self.log_levels()

    def configuration(self):
        place = "styx.yaml:3:1"
        return Configuration(
            "styx.yaml", False, [ConfigSetting("timeouts.head", "10s", "file", place, ["HEAD_TIMEOUT"], True)]
        )

    async def command(self, what):
        self.commands.append(what)
        self._asked.release()
        await self._may_reply.wait()
        return self.result

    def _replies(self, what):
        return WorkerReplies([WorkerReply(0, 11, msgspec.Raw(msgspec.json.encode(what)))], [1])


class Admin:
    """An admin server on a free port and a Unix socket, with methods that send requests to it."""

    def __init__(self, server, health, sessions, control_api, path, registry):
        self.server, self.health, self._sessions, self.control_api = server, health, sessions, control_api
        self.path, self.registry = path, registry

    async def get(self, path, method="GET", body=None, **headers):
        """Over TCP."""
        return await self._ask(0, path, method, body, headers)

    async def act(self, path, body=None, method="POST", **headers):
        """Over the Unix socket."""
        return await self._ask(1, path, method, body, headers)

    async def _ask(self, way, path, method, body, headers):
        url = f"http://127.0.0.1:{self.server.address.port or 80}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._sessions[way].request(method, url, data=body, headers=named) as response:
            return response, await response.text()

    async def problem(self, path, status, method="GET", body=None, **headers):
        return self.refused(await self.get(path, method, body, **headers), status)

    def refused(self, asked, status):
        response, body = asked
        assert response.status == status
        assert response.content_type == "application/problem+json"
        content = json.loads(body)
        assert content["status"] == status
        return response, content["detail"]


@asynccontextmanager
async def admin_servers(explained, snapshot, folder):
    """start(...) starts a server; all are stopped at the end."""
    started = []

    async def start(address=LOOPBACK, token="", users=None, bounds=Bounds(), beside=True, status=None):  # noqa: B008
        health, control_api, board = Health(), TwoWorkers(snapshot, explained), Scoreboard(2)
        board.row(1).begin(0, 11, 1.0)
        board.row(1).publish(snapshot)
        registry = new_registry(board)
        status = status or EdgeStatus(
            board,
            control_api,
            health,
            edge="edge-1",
            listeners=["127.0.0.1:80"],
            edge_state=lambda: EdgeState(StreamState(), RouteFileState(), 1.0),
            workers=lambda: {0: 11},
        )
        server = AdminServer(
            address,
            health=health,
            registry=registry,
            control_api=control_api,
            page=StatusPage(status),
            token=token,
            users=users,
            bounds=bounds,
        )
        path = f"{folder}/{len(started)}.sock"
        sockets = [open_listener(address, private=True)]
        sockets += [open_listener(Address(path=path), private=True)] if beside else []
        over_tcp = aiohttp.UnixConnector(address.path) if address.path else aiohttp.TCPConnector()
        sessions = [aiohttp.ClientSession(connector=c) for c in (over_tcp, aiohttp.UnixConnector(path))]
        started.append((server, sessions, sockets))
        await server.start(*sockets)
        return Admin(server, health, sessions, control_api, path, registry)

    yield start
    for server, sessions, sockets in started:
        for session in sessions:
            await session.close()
        await server.stop()
        for sock in sockets:
            sock.close()


@pytest.fixture
async def serve(explained, snapshot, tmp_path):
    """Start a server; stopped after the test."""
    async with admin_servers(explained, snapshot, tmp_path) as start:
        yield start


@pytest.fixture
async def admin(serve):
    return await serve()
