import asyncio
import json
import logging
import os
import platform
import pwd
import time

import pytest
from prometheus_client.openmetrics import parser

from edge import BUILD, __version__
from edge.admin.admin_messages import CommandResult
from edge.admin.admin_server import ADDRESSES
from edge.rules.explain_records import ExplainedRoute
from edge.rules.settings.values import Address
from tests.admin.conftest import LOOPBACK


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


async def test_metrics_in_both_formats(admin, snapshot):
    response, body = await admin.get("/metrics")
    assert response.content_type == "text/plain"
    assert f"styx_routes {snapshot['routes']:.1f}" in body
    response, body = await admin.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert response.content_type == "application/openmetrics-text"
    assert "styx_routes" in {family.name for family in parser.text_string_to_metric_families(body)}


async def test_version(admin):
    response, body = await admin.get("/v1/version")
    assert response.content_type == "application/json"
    assert json.loads(body) == {"version": __version__, "build": BUILD, "python": platform.python_version()}


async def test_overview(admin, snapshot):
    response, body = await admin.get("/v1/overview")
    content = json.loads(body)
    assert response.content_type == "application/json"
    assert (content["version"], content["build"], content["stage"]) == (__version__, BUILD, "starting")
    [worker] = content["workers"]
    assert (worker["worker"], worker["pid"], worker["content"]["routes"]) == (0, 11, snapshot["routes"])
    assert content["silent"] == [1]


@pytest.mark.parametrize(
    "host",
    [
        "live-acme.example.org",
        "Live-ACME.example.org.",
        "live-acme.example.org:8443",
        "https%3A%2F%2Flive-acme.example.org%2Fnode%2F12%3Fx=1",
    ],
)
async def test_explain(admin, explained, host):
    response, body = await admin.get(f"/v1/routes/{host}/explain")
    assert response.status == 200
    content = json.loads(body)
    [worker] = content["workers"]
    assert tuple(worker["content"]) == ExplainedRoute.__struct_fields__
    assert [b["id"] for b in worker["content"]["backends"]] == ["b7c1", "c0d9", "e1"]
    assert content["silent"] == [1]
    assert content["source"]["kind"] == "core API"
    response, text = await admin.get(f"/v1/routes/{host}/explain", Accept="text/plain")
    assert response.content_type == "text/plain"
    assert text.startswith("live-acme.example.org  ·  acme/live")


async def test_a_host_that_nobody_asked_for(admin):
    _, detail = await admin.problem("/v1/routes/other.test/explain", 404)
    assert detail.startswith("No request has asked for other.test yet, or its route was forgotten since.")
    assert detail.endswith(" Known is: live-acme.example.org.")
    _, detail = await admin.problem("/v1/routes/-no-name/explain", 404)
    assert "cannot be a hostname" in detail
    _, detail = await admin.problem("/v1/routes/%20/explain", 422)
    assert "no hostname" in detail
    for path in ("other.test", "%20"):
        response, body = await admin.get(f"/v1/routes/{path}/explain", Accept="text/plain")
        assert (response.status, response.content_type) == (200, "text/plain")
        assert "hostname" in body or "asked for" in body


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
    response, detail = admin.refused(await admin.act("/v1/overview"), 405)
    assert (response.headers["Allow"], detail) == ("GET, HEAD", "/v1/overview knows GET, HEAD only.")


async def test_an_unexpected_exception(serve, capsys):
    admin = await serve()
    _, detail = await admin.problem("/v1/routes/fault.test/explain", 500)
    assert "planted" not in detail
    assert "planted" in capsys.readouterr().out


async def test_drains(admin):
    body = b'{"kind": "server", "name": "srv-1", "seconds": 60}'
    response, content = await admin.act("/v1/drains", body)
    assert response.status == 200
    assert json.loads(content) == {
        "workers": [{"worker": 0, "pid": 11, "content": 1, "error": "", "leaving": False}],
        "silent": [1],
    }
    [drain] = admin.control_api.drains()
    assert (drain.kind, drain.name, drain.seconds) == ("server", "srv-1", 60.0)
    assert drain.by == pwd.getpwuid(os.geteuid()).pw_name
    assert drain.until == pytest.approx(time.time() + 60.0, abs=30.0)
    _, content = await admin.get("/v1/drains")
    assert json.loads(content)[0]["by"] == drain.by


async def test_a_drain_with_the_token_says_so(serve):
    admin = await serve(token="sesame")
    body = b'{"kind": "server", "name": "srv-1", "seconds": 60}'
    assert (await admin.get("/v1/drains", "POST", body, Authorization="Bearer sesame"))[0].status == 200
    assert admin.control_api.drains()[0].by == "the admin token"


async def test_an_unknown_name_is_refused_with_the_nearest_ones(admin):
    wrong = b'{"kind": "backend", "name": "b7c1", "seconds": 60}'
    _, detail = admin.refused(await admin.act("/v1/drains", wrong), 404)
    assert detail == (
        "No route that this edge knows has the backend b7c1. Did you mean acme/live/b7c1? "
        "A backend is named site/environment/id. A route is known from its first request on; `--force` drains the "
        "name before that."
    )
    ending = b'{"kind": "server", "name": "srv-2", "seconds": 0}'
    _, detail = admin.refused(await admin.act("/v1/drains", ending), 404)
    assert detail == "The server srv-2 is not drained."
    assert not admin.control_api.drains()
    forced = b'{"kind": "backend", "name": "b7c1", "seconds": 60, "force": true}'
    assert (await admin.act("/v1/drains", forced))[0].status == 200


async def test_a_drain_that_is_not_under_way_cannot_be_ended(admin):
    await admin.act("/v1/drains", b'{"kind": "server", "name": "srv-1", "seconds": 60}')
    _, detail = admin.refused(
        await admin.act("/v1/drains", b'{"kind": "server", "name": "srv-7", "seconds": 0}'), 404
    )
    assert detail == "The server srv-7 is not drained. Did you mean srv-1?"
    assert (await admin.act("/v1/drains", b'{"kind": "server", "name": "srv-1", "seconds": 0}'))[0].status == 200


async def test_too_many_drains(admin):
    admin.control_api.full = True
    body = b'{"kind": "server", "name": "srv-1", "seconds": 60}'
    _, detail = admin.refused(await admin.act("/v1/drains", body), 409)
    assert detail == "1000 drains are under way."


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
    _, detail = admin.refused(await admin.act(path, body), status)
    assert words in detail
    assert not admin.control_api.drains()
    assert not admin.control_api.invalidated


async def test_invalidate(admin):
    response, content = await admin.act("/v1/invalidate", b'{"kind": "all"}')
    assert (response.status, json.loads(content)["workers"][0]["content"]) == (200, 3)
    await admin.act("/v1/invalidate", b'{"kind": "hostname", "name": "a.test"}')
    assert admin.control_api.invalidated == [("all", ""), ("hostname", "a.test")]


@pytest.mark.parametrize("what", ["reload", "upgrade"])
async def test_commands_for_the_master(admin, what):
    response, content = await admin.act(f"/v1/{what}")
    assert (response.status, json.loads(content)) == (200, {"done": True, "words": ["nothing changed"]})
    admin.control_api.result = CommandResult(False, ["styx.yaml:1:1: wrong"])
    response, content = await admin.act(f"/v1/{what}")
    assert (response.status, json.loads(content)["words"]) == (422, ["styx.yaml:1:1: wrong"])
    assert admin.control_api.commands == [what, what]
    assert (await admin.get(f"/v1/{what}"))[0].status == 405


ACTS = [
    ("/v1/reload", b""),
    ("/v1/upgrade", b""),
    ("/v1/drains", b'{"kind": "server", "name": "srv-1", "seconds": 60}'),
    ("/v1/invalidate", b'{"kind": "all"}'),
]


def acted(admin):
    return [*admin.control_api.commands, *admin.control_api.drains(), *admin.control_api.invalidated]


@pytest.mark.parametrize(("path", "body"), ACTS)
async def test_acting_over_tcp_needs_the_token(serve, path, body, tmp_path):
    admin = await serve()
    for headers in ({}, {"Authorization": "Bearer sesame"}):
        response, content = await admin.get(path, "POST", body, **headers)
        assert (response.status, json.loads(content)["socket"]) == (403, f"{tmp_path}/0.sock")
    assert not acted(admin)
    with_token = await serve(token="sesame")
    await with_token.problem(path, 403, "POST", body)
    await with_token.problem(path, 401, "POST", body, Authorization="Bearer wrong")
    assert not acted(with_token)
    assert (await with_token.get(path, "POST", body, Authorization="Bearer sesame"))[0].status == 200
    assert len(acted(with_token)) == 1


@pytest.mark.parametrize(("path", "body"), ACTS)
@pytest.mark.parametrize("as_address", [False, True])
async def test_commands_over_a_unix_socket_need_a_trusted_user(serve, path, body, as_address, tmp_path):
    address = Address(path=f"{tmp_path}/address") if as_address else LOOPBACK
    ours, others = await serve(address), await serve(Address(path=f"{tmp_path}/b"), users=[os.geteuid() + 1])
    assert (await (ours.get(path, "POST", body) if as_address else ours.act(path, body)))[0].status == 200
    assert len(acted(ours)) == 1
    for asked in (await others.act(path, body), await others.get(path, "POST", body)):
        others.refused(asked, 403)
    assert not acted(others)
    assert (await others.act("/v1/overview", method="GET"))[0].status == 200


async def test_where_no_command_is_possible_the_response_says_so(serve):
    admin = await serve(beside=False)
    response, body = await admin.get("/v1/reload", "POST")
    assert response.status == 403
    assert "set admin.socket or admin.token_file" in json.loads(body)["detail"]
    assert "socket" not in json.loads(body)


async def test_a_command_is_logged(admin, capsys):
    await admin.act("/v1/reload")
    assert "admin_command" in capsys.readouterr().out


async def test_a_web_page_changes_nothing(admin):
    for header in ({"Origin": "https://evil.test"}, {"Sec_Fetch_Site": "cross-site"}):
        _, detail = admin.refused(await admin.act("/v1/reload", **header), 403)
        assert "Web pages" in detail
    assert not acted(admin)


@pytest.mark.parametrize("name", ["Via", "Forwarded", "X-Forwarded-For"])
async def test_requests_that_came_through_a_proxy(serve, name):
    admin = await serve(token="sesame")
    for path in ("/", "/metrics", "/v1/overview", "/nothing"):
        await admin.problem(path, 403, **{name: "x"})
    await admin.problem("/v1/reload", 403, "POST", Authorization="Bearer sesame", **{name: "x"})
    admin.refused(await admin.act("/v1/reload", **{name: "x"}), 403)
    assert not acted(admin)
    assert (await admin.get("/livez", **{name: "x"}))[0].status == 200


async def test_a_token_that_is_changed(serve):
    admin = await serve(token="sesame")
    admin.server.use_token("other")
    await admin.problem("/metrics", 401, Authorization="Bearer sesame")
    assert (await admin.get("/v1/reload", "POST", Authorization="Bearer other"))[0].status == 200


async def test_an_open_address_asks_for_the_token_even_to_read(serve, tmp_path):
    admin = await serve(Address("0.0.0.0", 0), token="sesame")
    for path in ("/", "/metrics", "/v1/overview", "/nothing"):
        response, body = await admin.get(path)
        assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
        assert json.loads(body)["socket"] == f"{tmp_path}/0.sock", "to those on this machine"
        for wrong in ("Bearer wrong", "Basic sesame", "ü"):
            response, _ = await admin.problem(path, 401, Authorization=wrong)
            assert response.headers["WWW-Authenticate"] == "Bearer"
    assert (await admin.get("/metrics", Authorization="bearer sesame"))[0].status == 200
    assert (await admin.act("/v1/overview", method="GET"))[0].status == 200
    assert (await admin.act("/v1/reload"))[0].status == 200


async def test_loopback_is_open_for_reading_also_beside_a_token(serve):
    admin = await serve(token="sesame")
    assert (await admin.get("/v1/overview"))[0].status == 200
    await admin.problem("/v1/overview", 421, Host="evil.test")


async def test_health_is_open_to_all(serve):
    admin = await serve(Address("0.0.0.0", 0), token="sesame")
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


async def test_the_overview_names_the_admin_socket(serve, tmp_path):
    admin = await serve()
    assert json.loads((await admin.get("/v1/overview"))[1])["socket"] == f"{tmp_path}/0.sock"
    assert repr(admin.server) == f"<AdminServer 127.0.0.1:{admin.server.address.port}>"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large(admin, chunked):
    body = b'{"kind": "server", "name": "' + b"x" * 65536 + b'", "seconds": 1}'

    async def pieces():
        yield body

    _, detail = admin.refused(await admin.act("/v1/drains", pieces() if chunked else body), 413)
    assert "65536" in detail or "Large" in detail
    assert not acted(admin)


async def test_malformed_requests_are_not_logged(admin, caplog):
    """With them every local user could fill the log."""
    reader, writer = await asyncio.open_connection("127.0.0.1", admin.server.address.port)
    writer.write(b"GET / HTTP/1.1\r\nHo st: x\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
    writer.close()
    await writer.wait_closed()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_an_open_address_needs_a_token(serve):
    with pytest.raises(ValueError, match="needs a token"):
        await serve(Address("0.0.0.0", 0))
    assert (await (await serve(Address("0.0.0.0", 0), token="sesame")).get("/livez"))[0].status == 200


async def test_the_query_of_the_list_of_routes_is_passed_on(serve):
    admin = await serve()
    response, _ = await admin.get("/v1/routes?from=20&limit=7&site=acme&freshness=stale")
    assert response.status == 200
    assert admin.control_api.asked == (20, 7, "acme", "stale")
    await admin.get("/v1/routes")
    assert admin.control_api.asked == (0, 100, "", "")
    for wrong in ("limit=0", "limit=1001", "from=-1", "from=x", "freshness=rotten"):
        await admin.problem(f"/v1/routes?{wrong}", 422)
