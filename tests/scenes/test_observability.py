"""What is told about a request: the access log, the outcome, the explanation, the counters."""

import asyncio
import json
import re
import socket
from functools import partial
from ipaddress import ip_network

import msgspec

from edge.admin.log.access_log import AccessLog
from edge.admin.metric_sources import NamedGroup
from edge.admin.metrics.named_slots import connections_on, identity
from edge.admin.scoreboard import LAYOUT
from edge.rules.exchange_records import Outcome
from edge.rules.settings import AccessLogSettings
from edge.run import worker
from tests.support.scene import Client, request


async def test_a_line_of_the_access_log(scene, tmp_path):
    path = tmp_path / "access.log"
    scene.settings(access_log={"path": str(path), "flush_interval": 0.01})
    dead, live = scene.dead(), scene.backend()
    scene.route("shop.test", [dead, live])
    reply = await scene.post("shop.test", "/a?b=ä", body=b"12345")
    await scene.until(lambda: path.exists() and path.read_bytes().endswith(b"\n"))
    [line] = path.read_text().splitlines()
    logged = json.loads(line)
    assert set(Outcome.__struct_fields__) <= set(logged)
    assert logged["id"] == reply["x-request-id"]
    assert (logged["method"], logged["host"], logged["status"]) == ("POST", "shop.test", 200)
    assert logged["target"].startswith("/a?b=")
    assert (logged["bytes_in"], logged["bytes_out"]) == (5, 5)
    assert (logged["site"], logged["environment"], logged["backend"]) == ("shop.test", "live", live.name)
    assert (logged["phase"], logged["blame"], logged["cause"]) == ("-", "-", "ok")
    assert [(a["backend"], a["result"], a["status"]) for a in logged["attempts"]] == [
        (dead.name, "connect_failed", 0),
        (live.name, "ok", 200),
    ]
    assert logged["client"] == "127.0.0.1"
    assert logged["total_ms"] >= logged["resolve_ms"] > 0


async def test_header_fields_of_what_the_client_got_are_logged(scene, tmp_path):
    """Not those of the response before it, which another attempt replaced, nor of a response of the edge itself."""
    path = tmp_path / "access.log"
    scene.settings(
        access_log={"path": str(path), "flush_interval": 0.01, "response_headers": ("x-cache", "set-cookie")}
    )
    full = scene.backend(503, headers=(("X-Styx-Refused", "1"), ("X-Cache", "FULL")))
    live = scene.backend(404, headers=(("X-Cache", "MISS"), ("Set-Cookie", "id=s3cret")))
    scene.route("shop.test", [full, live])
    scene.route("full.test", [full])
    assert (await scene.get("shop.test")).status == 404
    assert (await scene.get("full.test")).status == 503
    await scene.until(lambda: path.exists() and path.read_bytes().count(b"\n") == 2)
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["response_headers"] == {"x-cache": "MISS", "set-cookie": "(redacted)"}
    assert [attempt["result"] for attempt in first["attempts"]][-1] == "ok"
    assert "response_headers" not in second
    assert second["attempts"]


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


DETAILED = {"path": "/dev/null", "fields": ("*",)}


async def test_what_an_incident_needs(scene):
    scene.settings(access_log=DETAILED)
    dead, live = scene.dead(), scene.backend()
    scene.route("shop.test", [dead, live])
    headers = {
        "User-Agent": "Browser/1",
        "Referer": "https://a.test/b",
        "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
    }
    await scene.get("shop.test", headers=tuple(headers.items()))
    told = scene.outcome
    assert (told.user_agent, told.referer, told.trace_id) == ("Browser/1", "https://a.test/b", TRACE)
    assert (told.scheme, told.protocol, told.listener) == ("http", "http/1.1", "127.0.0.1:0")
    assert told.backend_address == f"127.0.0.1:{live.port}"
    assert [attempt.address for attempt in told.attempts] == [f"127.0.0.1:{b.port}" for b in (dead, live)]
    assert (told.retries, told.freshness, told.queue_ms) == (1, "looked_up", 0)
    assert (told.phase_name, told.blame_name, told.ended) == ("finished", "nobody", True)
    assert (told.client, told.peer) == ("127.0.0.1", "127.0.0.1")
    assert told.client_port == told.peer_port > 0
    await scene.get("shop.test")
    assert (scene.outcome.freshness, scene.outcome.user_agent) == ("fresh", "")


async def test_words_of_a_failure(scene):
    scene.settings(access_log=DETAILED)
    scene.route("shop.test", [scene.dead()])
    await scene.get("shop.test")
    told = scene.outcome
    assert (told.phase_name, told.blame_name, told.backend_address) == ("connect", "backend", "")
    await scene.get("nobody.test")
    told = scene.outcome
    assert (told.phase_name, told.blame_name, told.freshness) == ("route", "client", "looked_up")
    await scene.send_raw(b"GET /\r\n\r\n")
    assert (scene.outcome.phase_name, scene.outcome.freshness) == ("head", "")


async def test_the_client_that_a_trusted_proxy_names(scene):
    scene.settings(forwarding={"trusted": (ip_network("127.0.0.0/8"),)}, access_log=DETAILED)
    scene.route("shop.test", [scene.backend()])
    await scene.get("shop.test", headers=(("X-Forwarded-For", "198.51.100.1, 203.0.113.9"),))
    told = scene.outcome
    assert (told.client, told.client_port, told.peer) == ("203.0.113.9", 0, "127.0.0.1")
    assert told.peer_port > 0
    await scene.get("shop.test")
    assert (scene.outcome.client, scene.outcome.peer) == ("127.0.0.1", "127.0.0.1")


async def test_the_client_of_a_proxy_header(scene):
    scene.settings(access_log=DETAILED)
    scene.listeners({"proxy_protocol": True, "trusted": (ip_network("127.0.0.1"),)})
    scene.route("shop.test", [scene.backend()])
    connection = await scene.client()
    await connection.write(b"PROXY TCP4 203.0.113.9 198.51.100.1 56324 443\r\n" + request("shop.test"))
    assert (await connection.read_reply()).status == 200
    told = scene.outcome
    assert (told.client, told.client_port, told.peer) == ("203.0.113.9", 56324, "127.0.0.1")
    assert told.peer_port not in (0, 56324)


async def test_lines_of_many_requests(scene, tmp_path):
    path = tmp_path / "access.log"
    scene.settings(access_log={"path": str(path), "flush_interval": 0.01})
    scene.route("shop.test", [scene.backend()])
    await scene.edge()
    await asyncio.gather(*(scene.get("shop.test", f"/{n}") for n in range(200)))
    await scene.until(lambda: path.exists() and path.read_bytes().count(b"\n") == 200)
    logged = [json.loads(line) for line in path.read_text().splitlines()]
    assert {line["target"] for line in logged} == {f"/{n}" for n in range(200)}
    assert len({line["id"] for line in logged}) == 200


async def test_evil_bytes_do_not_break_a_line(scene, tmp_path):
    path = tmp_path / "access.log"
    scene.settings(access_log={"path": str(path), "flush_interval": 0.01})
    scene.route("shop.test", [scene.backend()])
    for target in ('/"\\"', "/%0a%0d", "/\u2028ä"):
        await scene.get("shop.test", target)
    await scene.get('"evil')
    await scene.until(lambda: path.exists() and path.read_bytes().count(b"\n") == 4)
    assert len([json.loads(line) for line in path.read_bytes().splitlines()]) == 4


async def test_every_exchange_is_reported_once(scene):
    scene.route("shop.test", [scene.backend()])
    scene.route("dead.test", [scene.dead()])
    client = await scene.client()
    hosts = ["shop.test", "dead.test", "nobody.test"] * 5
    for host in hosts:
        await client.write(request(host))
        await client.read_reply()
    assert [outcome.host for outcome in scene.outcomes] == hosts
    assert len({outcome.id for outcome in scene.outcomes}) == len(hosts)
    request_counters = {"ok": 5, "connect_failed": 5, "unknown_host": 5}
    assert {cause: [o.cause for o in scene.outcomes].count(cause) for cause in request_counters} == request_counters


async def test_times(scene):
    live = scene.backend()
    scene.route("shop.test", [live])
    await scene.get("shop.test")
    first = scene.outcome
    assert first.resolve_ms > 0
    assert first.connect_ms > 0
    assert first.first_byte_ms > 0
    assert first.total_ms >= first.resolve_ms + first.first_byte_ms
    await scene.get("shop.test")
    assert scene.outcome.resolve_ms == 0
    assert scene.outcome.connect_ms == 0
    assert scene.outcome.total_ms >= scene.outcome.first_byte_ms > 0


async def test_an_outcome_of_a_request_that_nobody_could_read(scene):
    await scene.send_raw(b"\x00\r\n\r\n")
    assert (scene.outcome.host, scene.outcome.method, scene.outcome.status) == ("", "", 400)
    assert scene.outcome.attempts == []
    assert msgspec.json.decode(msgspec.json.encode(scene.outcome), type=Outcome) == scene.outcome


async def test_explained(scene):
    dead, live = scene.dead(), scene.backend()
    route = scene.route("shop.test", [dead, live])
    await scene.get("shop.test")
    explained = scene.worker.explain("shop.test")
    assert (explained.known, explained.freshness, explained.generation) == (True, "fresh", route["generation"])
    assert (explained.site, explained.environment) == ("shop.test", "live")
    assert explained.last_error is None
    # The request's attempt, and connect checks from a tenth of a second later on.
    assert {failed.cause for failed in scene.explained("shop.test", dead).failures} == {"connect_failed"}
    assert scene.explained("shop.test", live).samples == 1
    assert sum(backend.probability for backend in explained.backends) == 1.0
    await scene.get("nobody.test")
    assert scene.worker.explain("nobody.test").known is False
    assert scene.worker.explain("never.test") is None


async def test_counters(scene):
    scene.route("shop.test", [scene.backend()])
    for host in ("shop.test", "shop.test", "nobody.test", "nobody.test"):
        await scene.get(host)
    snapshot = scene.snapshot
    assert (snapshot.route_misses, snapshot.route_hits) == (2, 2)
    assert snapshot.unknown_hits == 2
    assert (snapshot.routes, snapshot.unknown_hosts, snapshot.environments) == (1, 1, 1)
    assert (snapshot.links_opened, snapshot.links_reused, snapshot.links_idle) == (1, 1, 1)
    assert snapshot.client_connections_accepted == 4


async def test_the_busiest_and_most_failing_sites(scene):
    scene.route("shop.test", [scene.backend()], site="shop")
    scene.route("broken.test", [scene.dead()], site="broken")
    scene.route("empty.test", [], site="empty")
    for host in ("shop.test", "shop.test", "broken.test", "empty.test", "nobody.test"):
        await scene.get(host)
    report = scene.worker.context.top_sites.report(scene.worker.context.clock())
    assert (report.requests[0].site, report.requests[0].requests) == ("shop", 2)
    assert {load.site for load in report.failures} == {"broken", "empty"}
    assert {load.site for load in report.requests} == {"shop", "broken", "empty"}, "an unknown host is no site"


async def test_of_very_many_requests_some_are_left_out_of_the_busiest_sites_but_no_failure(scene):
    scene.route("shop.test", [scene.backend()], site="shop")
    scene.route("broken.test", [scene.dead()], site="broken")
    await scene.get("nobody.test")
    sites = scene.worker.context.top_sites
    sites.skip = 2
    for host in ("shop.test", "broken.test", "shop.test"):
        await scene.get(host)
    assert sites.skip == 0
    await scene.get("shop.test")
    report = sites.report(scene.worker.context.clock())
    assert {load.site: load.requests for load in report.requests} == {"shop": 1, "broken": 1}


async def test_connections_are_counted_for_their_listener_as_long_as_they_are_open(scene):
    """Those that wait for a PROXY header, too, and those that linger after their response."""
    here = {"trusted": ("127.0.0.0/8",)}
    addresses = [{"address": f"127.0.0.{number}:0"} for number in (1, 2, 3)]
    scene.listeners(addresses[0], {**addresses[1], "proxy_protocol": True, **here}, addresses[2])
    scene.route("shop.test", [scene.backend()])
    worker = await scene.edge()

    def opened():
        worker.publish()
        return list(connections_on(worker.row).values())

    assert opened() == [0, 0, 0], "there from the start"
    clients = []
    for listener, address in ((0, "127.0.0.1"), (1, "127.0.0.2"), (1, "127.0.0.2"), (2, "127.0.0.3")):
        sock = socket.create_connection((address, worker.ports[listener]))
        sock.setblocking(False)
        clients.append(Client(sock))
    scene.clients += clients
    await scene.until(lambda: opened() == [1, 2, 1])
    await clients[1].write(b"PROXY TCP4 203.0.113.9 203.0.113.9 5000 80\r\n" + request("shop.test"))
    assert (await clients[1].read_reply()).status == 200
    await clients[3].write(b"nonsense\r\n\r\n")
    assert (await clients[3].read_reply()).status == 400
    assert opened() == [1, 2, 1]
    for client, left in ((clients[2], [1, 1, 1]), (clients[3], [1, 1, 0]), (clients[1], [1, 0, 0])):
        client.leave()
        await scene.until(lambda left=left: opened() == left)


async def test_listeners_and_sites_with_numbers_of_their_own(scene):
    scene.settings(metrics={"sites": ("shop",)})
    scene.route("shop.test", [scene.backend()], site="shop")
    scene.route("other.test", [scene.backend()], site="other")
    for host in ("shop.test", "shop.test", "other.test"):
        await scene.get(host)
    worker = scene.worker
    worker.publish()
    cells, (listener,) = worker.row.cells, worker.settings.listeners
    assert cells[LAYOUT.cells["styx_site_responses_total"]["2xx"]] == 2
    assert cells[LAYOUT.cells["styx_listener_requests_total"][""]] == 3
    assert cells[LAYOUT.cells["styx_listener_connections_accepted_total"][""]] == 3
    assert cells[LAYOUT.owners[NamedGroup.LISTENER]] == identity(str(listener.address))


async def test_a_line_without_a_record_is_that_of_the_record(scene, tmp_path, monkeypatch):
    """Lines of usual exchanges are put together without a record; each is what the record would give."""
    monkeypatch.setattr(worker, "AccessLog", partial(AccessLog, has_usual_lines=True))
    path, told = tmp_path / "access.log", tmp_path / "told.log"
    settings = {"path": str(path), "flush_interval": 0.01}
    scene.settings(access_log=settings, forwarding={"trusted": (ip_network("127.0.0.0/8"),)})
    scene.route("shop.test", [scene.backend(404, body=b"x" * 5000)])
    scene.route("retried.test", [scene.dead(), scene.backend()])
    for target in ("/cart?x=1", '/"quoted"', "/back\\slash", "/ä"):
        await scene.get("shop.test", target)
    for value in ("203.0.113.9", '203.0.113.9"', "203.0.113.9\\", "ä"):
        await scene.get("shop.test", headers=(("X-Forwarded-For", value), ("X-Request-Id", value)))
    for host in ("shop.test", "retried.test", "nobody.test", "shop.test"):
        await scene.post(host, "/upload", body=b"y" * 1234)
    await scene.until(lambda: path.exists() and path.read_bytes().count(b"\n") == len(scene.outcomes) == 12)
    log = AccessLog(AccessLogSettings(path=str(told)), edge="edge-1", worker=scene.worker.row.slot)
    log.start()
    for outcome in scene.outcomes:
        log.write(outcome)
    log.close()
    assert without_times(path) == without_times(told)


def without_times(path):
    """The lines of an access log; the record and the line of an exchange read the clock one after the other."""
    return [re.sub(rb'^{"time":[0-9.]+,', b"{", line) for line in path.read_bytes().splitlines()]
