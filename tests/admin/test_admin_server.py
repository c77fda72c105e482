import json
import os
import socket
import stat

import aiohttp
import msgspec
import pytest
from prometheus_client.openmetrics import parser

from edge import __version__
from edge.admin.admin_server import ADDRESSES, AdminServer, is_local_host
from edge.admin.board import Board
from edge.admin.crew import Answers, Drain, Granted, Told
from edge.admin.health import Health
from edge.admin.metrics import new_registry
from edge.rules.settings_values import Address
from edge.rules.snapshots import ExplainedRoute

LOOPBACK = Address("127.0.0.1", 0)


class TwoWorkers:
    """A crew of which the second worker is silent."""

    def __init__(self, snapshot, explained):
        self._snapshot, self._explained = snapshot, explained
        self.wished, self.told, self._drains = [], [], []
        self.granted = Granted(True, ["nothing changed"])

    async def snapshots(self):
        return self._answers(self._snapshot)

    async def routes(self, start, most, site, freshness):
        self.asked = (start, most, site, freshness)
        return Answers([], [0, 1])

    async def explain(self, host):
        if host == "fault.test":
            raise RuntimeError("planted")
        return self._answers(self._explained if host == self._explained.hostname else None)

    async def invalidate(self, kind, name):
        self.told.append((kind, name))
        return self._answers(3)

    async def drain(self, drain):
        self._drains.append(drain)
        return self._answers(len(self._drains))

    def drains(self):
        return self._drains

    async def wish(self, what):
        self.wished.append(what)
        return self.granted

    def _answers(self, what):
        return Answers([Told(0, 11, msgspec.Raw(msgspec.json.encode(what)))], [1])


class Admin:
    """A server on a free port, and verbs to ask it."""

    def __init__(self, server, health, session, crew):
        self.server, self.health, self._session, self.crew = server, health, session, crew

    async def get(self, path, method="GET", body=None, **headers):
        url = f"http://127.0.0.1:{self.server.address.port}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(method, url, data=body, headers=named) as response:
            return response, await response.text()

    async def problem(self, path, status, method="GET", body=None, **headers):
        response, body = await self.get(path, method, body, **headers)
        assert response.status == status
        assert response.content_type == "application/problem+json"
        told = json.loads(body)
        assert told["status"] == status
        return response, told["detail"]


@pytest.fixture
async def serve(explained, snapshot):
    """Start a server; stopped after the test."""
    started = []

    async def start(address=LOOPBACK, token=""):
        health, crew, board = Health(), TwoWorkers(snapshot, explained), Board(2)
        board.row(1).begin(0, 11, 1.0)
        board.row(1).publish(snapshot, 0, 0)
        server = AdminServer(
            address,
            health=health,
            registry=new_registry(board),
            crew=crew,
            token=token,
        )
        connector = aiohttp.UnixConnector(address.path) if address.path else aiohttp.TCPConnector()
        session = aiohttp.ClientSession(connector=connector)
        started.append((server, session))
        await server.start()
        return Admin(server, health, session, crew)

    yield start
    for server, session in started:
        await session.close()
        await server.stop()


@pytest.fixture
async def admin(serve):
    return await serve()


async def test_liveness(admin):
    response, body = await admin.get("/livez")
    assert (response.status, body) == (200, "starting: listeners are not open yet\n")
    admin.health.fail("the accept loop stopped")
    response, body = await admin.get("/livez")
    assert (response.status, body) == (503, "broken: the accept loop stopped\n")


async def test_readiness(admin):
    assert (await admin.get("/readyz"))[0].status == 503
    admin.health.opened()
    response, body = await admin.get("/readyz")
    assert (response.status, body) == (200, "ready\n")
    assert response.headers["Cache-Control"] == "no-store"
    admin.health.drain("SIGTERM")
    response, body = await admin.get("/readyz")
    assert (response.status, body) == (503, "draining: SIGTERM\n")


async def test_metrics_in_both_formats(admin):
    response, body = await admin.get("/metrics")
    assert response.content_type == "text/plain"
    assert "styx_routes 14.0" in body
    response, body = await admin.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert response.content_type == "application/openmetrics-text"
    assert "styx_routes" in {family.name for family in parser.text_string_to_metric_families(body)}


async def test_overview(admin, snapshot):
    response, body = await admin.get("/v1/overview")
    told = json.loads(body)
    assert response.content_type == "application/json"
    assert (told["version"], told["stage"]) == (__version__, "starting")
    [worker] = told["workers"]
    assert (worker["worker"], worker["pid"], worker["told"]["routes"]) == (0, 11, snapshot.routes)
    assert told["silent"] == [1]


@pytest.mark.parametrize("host", ["live-acme.example.org", "Live-ACME.example.org."])
async def test_explain(admin, explained, host):
    response, body = await admin.get(f"/v1/routes/{host}/explain")
    assert response.status == 200
    told = json.loads(body)
    [worker] = told["workers"]
    assert tuple(worker["told"]) == ExplainedRoute.__struct_fields__
    assert [b["id"] for b in worker["told"]["backends"]] == ["b7c1", "c0d9", "e1"]
    assert told["silent"] == [1]


async def test_a_host_that_nobody_asked_for(admin):
    _, detail = await admin.problem("/v1/routes/other.test/explain", 404)
    assert detail == "No request has asked for other.test yet, or its route was forgotten since."


async def test_the_index_lists_every_address(admin):
    _, body = await admin.get("/")
    assert body.startswith(f"styx {__version__}\n")
    for address, _ in ADDRESSES:
        assert address in body
        path = address.replace("{host}", "live-acme.example.org")
        assert (await admin.get(path))[0].status in (200, 503, 405)


async def test_errors_are_problem_details(admin):
    _, detail = await admin.problem("/nothing", 404)
    assert detail == "There is nothing at /nothing."
    response, detail = await admin.problem("/v1/overview", 405, method="POST")
    assert (response.headers["Allow"], detail) == ("GET, HEAD", "/v1/overview knows GET, HEAD only.")


async def test_a_fault_of_its_own(serve, capsys):
    admin = await serve()
    _, detail = await admin.problem("/v1/routes/fault.test/explain", 500)
    assert "planted" not in detail
    assert "planted" in capsys.readouterr().out


async def test_drains(admin):
    body = b'{"kind": "server", "name": "srv-1", "seconds": 60}'
    response, told = await admin.get("/v1/drains", "POST", body)
    assert response.status == 200
    assert json.loads(told) == {
        "workers": [{"worker": 0, "pid": 11, "told": 1, "error": "", "leaving": False}],
        "silent": [1],
    }
    assert admin.crew.drains() == [Drain("server", "srv-1", 60.0)]
    _, told = await admin.get("/v1/drains")
    assert json.loads(told) == [{"kind": "server", "name": "srv-1", "seconds": 60.0}]


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/drains", b"", 400, "no JSON"),
        ("/v1/drains", b"{", 400, "no JSON"),
        ("/v1/drains", b'{"kind": "server"}', 422, "missing required field `name`"),
        ("/v1/drains", b'{"kind": "planet", "name": "x", "seconds": 1}', 422, "backend, server, environment"),
        ("/v1/drains", b'{"kind": "server", "name": "", "seconds": 1}', 422, "has a name"),
        ("/v1/drains", b'{"kind": "server", "name": "x", "seconds": -1}', 422, "seconds from 0"),
        ("/v1/drains", b'{"kind": "server", "name": "x", "seconds": 1e9}', 422, "seconds from 0"),
        ("/v1/invalidate", b'{"kind": "site", "nmae": "x"}', 422, "unknown field `nmae`"),
    ],
)
async def test_bodies_that_are_not_as_they_should_be(admin, path, body, status, words):
    _, detail = await admin.problem(path, status, "POST", body)
    assert words in detail
    assert not admin.crew.drains()
    assert not admin.crew.told


async def test_invalidate(admin):
    response, told = await admin.get("/v1/invalidate", "POST", b'{"kind": "all"}')
    assert (response.status, json.loads(told)["workers"][0]["told"]) == (200, 3)
    await admin.get("/v1/invalidate", "POST", b'{"kind": "hostname", "name": "a.test"}')
    assert admin.crew.told == [("all", ""), ("hostname", "a.test")]


@pytest.mark.parametrize("what", ["reload", "upgrade"])
async def test_what_the_master_does(admin, what):
    response, told = await admin.get(f"/v1/{what}", "POST")
    assert (response.status, json.loads(told)) == (200, {"done": True, "words": ["nothing changed"]})
    admin.crew.granted = Granted(False, ["styx.yaml:1:1: wrong"])
    response, told = await admin.get(f"/v1/{what}", "POST")
    assert (response.status, json.loads(told)["words"]) == (422, ["styx.yaml:1:1: wrong"])
    assert admin.crew.wished == [what, what]
    assert (await admin.get(f"/v1/{what}"))[0].status == 405


async def test_a_web_page_changes_nothing(admin):
    _, detail = await admin.problem("/v1/reload", 403, "POST", Origin="https://evil.test")
    assert "Web pages" in detail
    assert not admin.crew.wished


async def test_a_token_that_is_changed(serve):
    admin = await serve(token="sesame")
    admin.server.use_token("other")
    await admin.problem("/metrics", 401, Authorization="Bearer sesame")
    assert (await admin.get("/metrics", Authorization="Bearer other"))[0].status == 200


async def test_the_token_is_asked_for(serve):
    admin = await serve(token="sesame")
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic sesame"},
        {"Authorization": "ü"},
    ):
        for path in ("/", "/metrics", "/v1/overview", "/nothing"):
            response, _ = await admin.problem(path, 401, **headers)
            assert response.headers["WWW-Authenticate"] == "Bearer"
    assert (await admin.get("/metrics", Authorization="bearer sesame"))[0].status == 200


async def test_health_is_told_to_all(serve):
    admin = await serve(token="sesame")
    assert (await admin.get("/livez", Host="lb.example.org"))[0].status == 200
    assert (await admin.get("/readyz"))[0].status == 503


async def test_a_rebound_name_is_refused(admin):
    _, detail = await admin.problem("/v1/overview", 421, Host="evil.test:9901")
    assert "localhost" in detail
    assert (await admin.get("/v1/overview", Host="localhost:9901"))[0].status == 200
    assert (await admin.get("/readyz", Host="evil.test"))[0].status == 503


async def test_with_a_token_any_name_will_do(serve):
    admin = await serve(token="sesame")
    assert (await admin.get("/", Host="edge7.example.org", Authorization="Bearer sesame"))[0].status == 200


@pytest.mark.parametrize(
    ("header", "local"),
    [
        ("localhost", True),
        ("LOCALHOST:9901", True),
        ("localhost.:9901", True),
        ("127.0.0.1:9901", True),
        ("[::1]:9901", True),
        ("127.0.0.9", True),
        ("127.0.0.8", False),
        ("", False),
        ("localhost.evil.test", False),
        ("127.0.0.1.evil.test:9901", False),
        ("[::2]", False),
        ("[evil", False),
    ],
)
def test_names_of_this_machine(header, local):
    assert is_local_host(header, "127.0.0.9") is local


async def test_a_unix_socket_is_private_and_goes_with_the_server(serve, tmp_path):
    path = str(tmp_path / "admin.sock")
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(path)
    left_behind.close()
    admin = await serve(Address(path=path))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert (await admin.get("/v1/overview", Host="anything"))[0].status == 200
    assert repr(admin.server) == f"<AdminServer unix:{path}>"
    await admin.server.stop()
    assert not os.listdir(tmp_path)


async def test_a_taken_address_is_told(serve, admin):
    with pytest.raises(OSError, match="address already in use"):
        await serve(admin.server.address)


async def test_an_open_address_needs_a_token(serve):
    with pytest.raises(ValueError, match="needs a token"):
        await serve(Address("0.0.0.0", 0))
    assert (await (await serve(Address("0.0.0.0", 0), token="sesame")).get("/livez"))[0].status == 200


async def test_the_list_of_routes_is_asked_for_as_wished(serve):
    admin = await serve()
    response, _ = await admin.get("/v1/routes?from=20&limit=7&site=acme&freshness=stale")
    assert response.status == 200
    assert admin.crew.asked == (20, 7, "acme", "stale")
    await admin.get("/v1/routes")
    assert admin.crew.asked == (0, 100, "", "")
    for wrong in ("limit=0", "limit=1001", "from=-1", "from=x", "freshness=rotten"):
        await admin.problem(f"/v1/routes?{wrong}", 422)
