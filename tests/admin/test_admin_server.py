import json
import os
import socket
import stat

import aiohttp
import pytest
from prometheus_client.openmetrics import parser

from edge import __version__
from edge.admin.access_log import AccessLog
from edge.admin.admin_server import ADDRESSES, AdminServer, is_local_host
from edge.admin.health import Health
from edge.admin.metrics import new_registry
from edge.admin.tally import Tally
from edge.rules.settings_values import Address
from edge.rules.snapshots import ExplainedRoute

LOOPBACK = Address("127.0.0.1", 0)


class Admin:
    """A server on a free port, and verbs to ask it."""

    def __init__(self, server, health, session):
        self.server, self.health, self._session = server, health, session

    async def get(self, path, method="GET", **headers):
        url = f"http://127.0.0.1:{self.server.address.port}{path}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._session.request(method, url, headers=named) as response:
            return response, await response.text()

    async def problem(self, path, status, method="GET", **headers):
        response, body = await self.get(path, method, **headers)
        assert response.status == status
        assert response.content_type == "application/problem+json"
        told = json.loads(body)
        assert told["status"] == status
        return response, told["detail"]


@pytest.fixture
async def serve(explained, snapshot):
    """Start a server; stopped after the test."""
    started = []

    async def start(address=LOOPBACK, token="", explain=None):
        health = Health()
        server = AdminServer(
            address,
            health=health,
            registry=new_registry(Tally(), lambda: snapshot, AccessLog("")),
            snapshot=lambda: snapshot,
            explain=explain or {explained.hostname: explained}.get,
            token=token,
        )
        connector = aiohttp.UnixConnector(address.path) if address.path else aiohttp.TCPConnector()
        session = aiohttp.ClientSession(connector=connector)
        started.append((server, session))
        await server.start()
        return Admin(server, health, session)

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
    assert told["worker"]["routes"] == snapshot.routes


@pytest.mark.parametrize("host", ["live-acme.example.org", "Live-ACME.example.org."])
async def test_explain(admin, explained, host):
    response, body = await admin.get(f"/v1/routes/{host}/explain")
    assert response.status == 200
    told = json.loads(body)
    assert tuple(told) == ExplainedRoute.__struct_fields__
    assert [b["id"] for b in told["backends"]] == ["b7c1", "c0d9", "e1"]


async def test_a_host_that_nobody_asked_for(admin):
    _, detail = await admin.problem("/v1/routes/other.test/explain", 404)
    assert detail == "No request has asked for other.test yet, or its route was forgotten since."


async def test_the_index_lists_every_address(admin):
    _, body = await admin.get("/")
    assert body.startswith(f"styx {__version__}\n")
    for address, _ in ADDRESSES:
        assert address in body
        path = address.replace("{host}", "live-acme.example.org")
        assert (await admin.get(path))[0].status in (200, 503)


async def test_errors_are_problem_details(admin):
    _, detail = await admin.problem("/nothing", 404)
    assert detail == "There is nothing at /nothing."
    response, detail = await admin.problem("/v1/overview", 405, method="POST")
    assert (response.headers["Allow"], detail) == ("GET, HEAD", "/v1/overview knows GET, HEAD only.")


async def test_a_fault_of_its_own(serve, capsys):
    def explain(host):
        raise RuntimeError("planted")

    admin = await serve(explain=explain)
    _, detail = await admin.problem("/v1/routes/x.test/explain", 500)
    assert "planted" not in detail
    assert "planted" in capsys.readouterr().out


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
